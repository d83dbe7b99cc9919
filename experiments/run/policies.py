"""Where a run's policies come from: pre-training, checkpoints, the base."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich import console as rich_console

from experiments import methods
from experiments.config import schema
from experiments.run import base_model, building, pretraining, run_directory
from score_jax import arrays, distributed, types
from score_jax.algorithm import adaptive, stage_coefficients
from score_jax.io import stop_signals
from score_jax.models import lora
from score_jax.rollout import given_attempts, randomness
from score_jax.tasks import self_refine
from score_jax.training import (
  checkpoint_manifest,
  checkpointing,
  layout,
  reference_policy,
  train_state,
)

# Makes a base policy and a Stage I policy by itself where they are missing.
_SELF_SUFFICIENT = 'tiny'


def make_plan(
  settings: schema.Settings,
  run: run_directory.RunDirectory,
  console: rich_console.Console,
) -> methods.Stages:
  """The phases to run now, those before a missing policy included.

  Raises:
    RunError: a policy is missing that this preset does not make by itself.
  """
  table = methods.stages(settings)
  if not table:
    return table
  wanted = [
    name
    for name in table
    if settings.stage in ('all', name.removeprefix('stage'))
  ]
  if not wanted:
    raise run_directory.RunError(
      f'there is no stage {settings.stage} with --turns={settings.turns}; '
      f'there are {", ".join(name[5:] for name in table)}'
    )
  names = list(table)
  before = names[: names.index(wanted[0])]
  missing = [
    name
    for name in before
    if not run.stage(name).is_finished(table[name].steps)
  ]
  if missing and settings.preset != _SELF_SUFFICIENT:
    first = missing[0].removeprefix('stage')
    raise run_directory.RunError(
      f'--stage={settings.stage} starts from the policy of {missing[-1]}, and '
      f'{run.stage(missing[-1]).path} has none that is finished; make it with: '
      f'python -m experiments.train --preset={settings.preset} '
      f'--run-dir={run.path} --stage={first}'
    )
  if missing:
    console.print(
      f'--stage={settings.stage} needs {" and ".join(missing)} first, which '
      f'{run.path} does not have: making it now.'
    )
  return {name: table[name] for name in table if name in (*before, *wanted)}


def base_policy(
  settings: schema.Settings,
  parts: building.Parts,
  run: run_directory.RunDirectory,
  console: rich_console.Console,
  stop: stop_signals.StopRequest,
) -> Any:
  """Parameters of the base policy: a checkpoint's, the run's, or made now."""
  directory = run.stage('base')
  if settings.init_from is not None:
    base_model.note_source(settings, directory)
    console.print(
      f'base: reading {settings.init_from}', markup=False, soft_wrap=True
    )
  if is_there(settings, directory):
    return stage_policy(settings, parts, run, methods.BASE)
  return pretraining.pretrain(settings, parts, directory, console, stop)


def begin_state(
  settings: schema.Settings,
  parts: building.Parts,
  policy: Any,
  optimizer: optax.GradientTransformation,
) -> arrays.TrainState:
  """The state in which a phase starts from a policy."""
  trained = trained_part(settings, parts, policy)
  return train_state.init_state(trained, optimizer, beta2=settings.beta2)


def trained_part(
  settings: schema.Settings, parts: building.Parts, policy: Any
) -> Any:
  """What updates change of a policy: all of its weights, or adapters of it."""
  if not settings.lora.rank:
    return reference_policy.on_device(policy)
  adapters = lora.adapters_of(policy)
  if not adapters:
    key = randomness.stream(settings.seed, 'init', 'lora', 0)
    adapters = parts.layout.new_adapters(policy, key)
  return jax.tree.map(distributed.put, adapters, parts.layout.trained)


def keep(settings: schema.Settings, policy: Any) -> Any:
  """A policy as it waits until a phase starts from it or is held to it.

  Off the devices, if references are: otherwise the base, which is every
  stage's reference, would stay on them beside its copy on the host.

  Raises:
    RunError: the devices have no memory on the host.
  """
  if settings.lora.rank or not settings.offload_reference:
    return policy
  try:
    return reference_policy.make_reference(policy, offload=True)
  except ValueError as error:
    raise run_directory.RunError(f'--offload-reference: {error}') from error


def make_reference(
  settings: schema.Settings, parts: building.Parts, policy: Any
) -> Any:
  """The policy as one to be held to, as wide and where the settings say.

  Raises:
    RunError: the devices have no memory on the host.
  """
  dtype = settings.reference_dtype
  dtype = None if dtype == 'auto' else layout.resolve_dtype(dtype)
  if settings.lora.rank:
    # The weights that adapters belong to: there is nothing to copy.
    return policy
  try:
    return reference_policy.make_reference(
      policy,
      dtype=dtype or parts.layout.dtype,
      offload=settings.offload_reference,
    )
  except ValueError as error:
    raise run_directory.RunError(f'--offload-reference: {error}') from error


def restore(
  parts: building.Parts,
  directory: run_directory.StageDirectory,
  which: str,
  base: Any = None,
) -> Any:
  """A policy from a stage's latest or best checkpoint.

  Args:
    parts: of the run.
    directory: of the stage, or of the base policy.
    which: 'latest' or 'best'.
    base: the base policy, whose adapters a stage's checkpoints may hold.

  Raises:
    RunError: there is none.
  """
  places = parts.layout
  shapes, shardings = places.trained_shapes, places.trained
  if directory.name == methods.BASE:
    places = dataclasses.replace(places, lora=schema.LoRA())
    shapes, shardings = places.trained_shapes, places.trained
  target = jax.tree.map(
    lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where),
    shapes,
    shardings,
  )
  with checkpointing.Checkpoints(
    directory.checkpoints, read_only=True
  ) as checkpoints:
    try:
      restored = checkpoints.restore({'params': target}, which, partial=True)
    except (
      checkpoint_manifest.DamagedError,
      checkpoint_manifest.MismatchError,
    ) as error:
      raise run_directory.RunError(str(error)) from error
  if restored is None:
    raise run_directory.RunError(
      f'{directory.path} has no checkpoint; make one with: python -m '
      f'experiments.train --run-dir={directory.path.parent}'
    )
  return lora.complete(restored.state['params'], base)


def stage_policy(
  settings: schema.Settings,
  parts: building.Parts,
  run: run_directory.RunDirectory,
  name: str,
) -> Any:
  """The policy that `base` or a phase ended with."""
  phase = methods.stages(settings).get(name)
  if isinstance(phase, methods.PromptStage):
    return stage_policy(settings, parts, run, phase.start)
  if name == methods.BASE and settings.init_from is not None:
    # Not wider than it is used: what trains makes a float32 copy of its own.
    dtype = settings.reference_dtype
    dtype = settings.dtype if dtype == 'auto' else dtype
    return base_model.import_weights(
      settings,
      parts.config,
      dtype=layout.resolve_dtype(dtype),
      shardings=parts.layout.update.params,
    )
  if name == methods.BASE:
    return restore(parts, run.stage(name), 'latest')
  is_best = settings.checkpoint_selection == 'best'
  base = None
  if settings.lora.rank:
    base = stage_policy(settings, parts, run, methods.BASE)
  which = 'best' if is_best else 'latest'
  return restore(parts, run.stage(name), which, base)


def is_there(
  settings: schema.Settings, base: run_directory.StageDirectory
) -> bool:
  """Whether the run has its base policy."""
  is_checkpoint = distributed.agree(base.source.exists())
  return is_checkpoint or base.is_finished(settings.pretrain.steps)


def finished_policies(
  settings: schema.Settings, run: run_directory.RunDirectory
) -> list[str]:
  """Names of the policies that the run has finished, in their order."""
  has_base = is_there(settings, run.stage(methods.BASE))
  return [methods.BASE] * has_base + [
    name
    for name, phase in methods.stages(settings).items()
    if run.stage(name).is_finished(phase.steps)
  ]


def choose_finished(
  settings: schema.Settings, run: run_directory.RunDirectory, name: str
) -> str:
  """The name itself, if that policy is finished.

  Raises:
    RunError: it is not, or there is none of that name.
  """
  there = finished_policies(settings, run)
  if name not in there:
    raise run_directory.RunError(
      f'{run.path} has no finished policy {name!r}; it has: '
      f'{", ".join(there) or "none"}. To finish the run: python -m '
      f'experiments.train --preset={settings.preset} --run-dir={run.path}'
    )
  return name


def parts_for(
  settings: schema.Settings, parts: building.Parts, name: str
) -> building.Parts:
  """The parts that a policy's episodes are made with: its own instruction."""
  phase = methods.stages(settings).get(name)
  if not isinstance(phase, methods.PromptStage):
    return parts
  text = settings.self_refine_instruction or self_refine.instruction(
    settings.task,
    settings.data.grader,
    chat=parts.sampler.chat_format.style != 'plain',
  )
  task = dataclasses.replace(parts.task, instruction=text)
  sampler = dataclasses.replace(parts.sampler, task=task)
  return dataclasses.replace(parts, task=task, sampler=sampler)


def given_first_attempts(
  settings: schema.Settings,
  parts: building.Parts,
  reference: Any,
  problems: Sequence[types.Problem],
  phase: methods.RLStage,
) -> given_attempts.GivenAttempts | None:
  """First attempts of the reference policy for a share of a phase's rows.

  They come from a fixed pool: the same problem always has the same ones. The
  first round(share * G) samples of each problem take them.
  """
  samples, turns = settings.samples_per_problem, phase.coefficients.turns
  count = round(phase.given_share * samples)
  if not count:
    return None
  sampler = parts.sampler
  drawn = sampler.sample(
    parts.layout.view(reference_policy.on_device(reference)),
    problems,
    randomness.stream(settings.seed, 'collect', 'base', 0),
    samples_per_problem=count,
    turns=1,
    temperature=settings.temperature,
  )
  drawn_tokens, turn = map(distributed.to_host, (drawn.tokens, drawn.turn))
  first = turn == 1
  width = sampler.max_new_tokens[0]
  tokens = np.zeros((len(problems), samples, turns, width), np.int32)
  lengths = np.zeros((len(problems), samples, turns), np.int32)
  for row, (ids, mask) in enumerate(zip(drawn_tokens, first)):
    problem, sample = divmod(row, count)
    attempt = ids[mask]
    tokens[problem, sample, 0, : len(attempt)] = attempt
    lengths[problem, sample, 0] = len(attempt)
  return given_attempts.GivenAttempts(
    jnp.asarray(tokens.reshape(-1, turns, width)),
    jnp.asarray(lengths.reshape(-1, turns)),
  )


def stage_now(
  phase: methods.RLStage, state: arrays.TrainState
) -> stage_coefficients.Stage:
  """The phase's stage with the coefficients of this step."""
  if not phase.is_adaptive:
    return phase.coefficients
  # From the host: jit would compile once more for a stage on a device.
  return adaptive.with_beta2(phase.coefficients, np.asarray(state.beta2))


def adapt(
  phase: methods.RLStage,
  state: arrays.TrainState,
  metrics: Mapping[str, Any],
) -> arrays.TrainState:
  """The state with beta2 moved towards its balance, where it adapts."""
  if not phase.is_adaptive:
    return state
  magnitudes = sorted(m for m in metrics if m.startswith('advantage_magnitude'))

  def mean(metric):
    total, count = metrics[metric]
    return total / jnp.maximum(count, 1)

  beta2 = adaptive.adapt_beta2(
    state.beta2, mean('kl/turn1'), mean(magnitudes[-1])
  )
  return state.replace(beta2=beta2)
