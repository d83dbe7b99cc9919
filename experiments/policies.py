"""Where a run's policies come from: pre-training, checkpoints, the base."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich import console as rich_console

from experiments import (
  assembly,
  base_model,
  interrupts,
  methods,
  pretraining,
  run_directory,
)
from experiments import settings as settings_lib
from score_jax import arrays, types
from score_jax.algorithm import adaptive, stages
from score_jax.models import transformer
from score_jax.rollout import engine, randomness
from score_jax.tasks import self_refine
from score_jax.training import checkpoints as checkpoints_lib
from score_jax.training import manifest

# Makes a base policy and a Stage I policy by itself where they are missing.
_SELF_SUFFICIENT = 'tiny'


def make_plan(
  settings: settings_lib.Settings,
  run: run_directory.RunDirectory,
  console: rich_console.Console,
) -> methods.Phases:
  """The phases to run now, those before a missing policy included.

  Raises:
    RunError: a policy is missing that this preset does not make by itself.
  """
  table = methods.phases(settings)
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
  settings: settings_lib.Settings,
  parts: assembly.Parts,
  run: run_directory.RunDirectory,
  console: rich_console.Console,
  stop: interrupts.StopRequest,
) -> Any:
  """Parameters of the base policy: a checkpoint's, the run's, or made now."""
  directory = run.stage('base')
  if settings.init_from is not None:
    base_model.note_source(settings, directory)
    return base_model.import_weights(
      settings, parts.config, shardings=parts.layout.update.params
    )
  if directory.is_finished(settings.pretrain.steps):
    return restore(parts, directory, 'latest')
  return pretraining.pretrain(settings, parts, directory, console, stop)


def restore(
  parts: assembly.Parts,
  directory: run_directory.StageDirectory,
  which: str,
) -> Any:
  """Parameters from a stage's latest or best checkpoint.

  Raises:
    RunError: there is none.
  """
  shapes = jax.eval_shape(
    lambda: transformer.init_params(parts.config, jax.random.key(0))
  )
  target = jax.tree.map(
    lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where),
    shapes,
    parts.layout.update.params,
  )
  with checkpoints_lib.Checkpoints(
    directory.checkpoints, read_only=True
  ) as checkpoints:
    try:
      restored = checkpoints.restore({'params': target}, which, partial=True)
    except (manifest.DamagedError, manifest.MismatchError) as error:
      raise run_directory.RunError(str(error)) from error
  if restored is None:
    raise run_directory.RunError(
      f'{directory.path} has no checkpoint; make one with: python -m '
      f'experiments.train --run-dir={directory.path.parent}'
    )
  return restored.state['params']


def stage_policy(
  settings: settings_lib.Settings,
  parts: assembly.Parts,
  run: run_directory.RunDirectory,
  name: str,
) -> Any:
  """The policy that `base` or a phase ended with."""
  phase = methods.phases(settings).get(name)
  if isinstance(phase, methods.Prompted):
    return stage_policy(settings, parts, run, phase.start)
  which = 'latest'
  if name == 'base' and settings.init_from is not None:
    return base_model.import_weights(
      settings, parts.config, shardings=parts.layout.update.params
    )
  if name != 'base' and settings.checkpoint_selection == 'best':
    which = 'best'
  return restore(parts, run.stage(name), which)


def finished_policies(
  settings: settings_lib.Settings, run: run_directory.RunDirectory
) -> list[str]:
  """Names of the policies that the run has finished, in their order."""
  base = run.stage(methods.BASE)
  has_base = base.source.exists() or base.is_finished(settings.pretrain.steps)
  return [methods.BASE] * has_base + [
    name
    for name, phase in methods.phases(settings).items()
    if run.stage(name).is_finished(phase.steps)
  ]


def choose_finished(
  settings: settings_lib.Settings, run: run_directory.RunDirectory, name: str
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
  settings: settings_lib.Settings, parts: assembly.Parts, name: str
) -> assembly.Parts:
  """The parts that a policy's episodes are made with: its own instruction."""
  phase = methods.phases(settings).get(name)
  if not isinstance(phase, methods.Prompted):
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
  settings: settings_lib.Settings,
  parts: assembly.Parts,
  reference: Any,
  problems: Sequence[types.Problem],
  phase: methods.Reinforced,
) -> engine.GivenAttempts | None:
  """First attempts of the reference policy for a share of a phase's rows.

  They come from a fixed pool: the same problem always has the same ones. The
  first round(share * G) samples of each problem take them.
  """
  samples, turns = settings.samples_per_problem, phase.stage.turns
  count = round(phase.given_share * samples)
  if not count:
    return None
  sampler = parts.sampler
  drawn = sampler.sample(
    parts.layout.view(reference),
    problems,
    randomness.stream(settings.seed, 'collect', 'base', 0),
    samples_per_problem=count,
    turns=1,
    temperature=settings.temperature,
  )
  first = np.asarray(drawn.turn) == 1
  width = sampler.limits[0]
  tokens = np.zeros((len(problems), samples, turns, width), np.int32)
  lengths = np.zeros((len(problems), samples, turns), np.int32)
  for row, (ids, mask) in enumerate(zip(np.asarray(drawn.tokens), first)):
    problem, sample = divmod(row, count)
    attempt = ids[mask]
    tokens[problem, sample, 0, : len(attempt)] = attempt
    lengths[problem, sample, 0] = len(attempt)
  return engine.GivenAttempts(
    jnp.asarray(tokens.reshape(-1, turns, width)),
    jnp.asarray(lengths.reshape(-1, turns)),
  )


def stage_now(
  phase: methods.Reinforced, state: arrays.TrainState
) -> stages.Stage:
  """The phase's stage with the coefficients of this step."""
  if not phase.is_adaptive:
    return phase.stage
  # From the host: jit would compile once more for a stage on a device.
  return adaptive.with_beta2(phase.stage, np.asarray(state.beta2))


def adapt(
  phase: methods.Reinforced,
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
