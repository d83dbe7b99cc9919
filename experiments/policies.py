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
  pretraining,
  run_directory,
)
from experiments import settings as settings_lib
from score_jax import arrays, processes, types
from score_jax.algorithm import ablations, adaptive, stages
from score_jax.models import transformer
from score_jax.rollout import engine, randomness
from score_jax.training import checkpoints as checkpoints_lib
from score_jax.training import manifest

# Makes a base policy and a Stage I policy by itself where they are missing.
_SELF_SUFFICIENT = 'tiny'


def all_stages(settings: settings_lib.Settings) -> dict[str, stages.Stage]:
  """The run's stages by name, in order, with the settings' coefficients.

  A method that SCoRe is compared with is one stage, named after it.
  """
  if settings.method == 'single_turn':
    return {settings.method: ablations.single_turn(settings.beta1)}
  if settings.method == 'multi_turn':
    stage = ablations.multi_turn(settings.beta1, settings.turns)
    return {settings.method: stage}
  table = stages.score_stages(
    settings.turns,
    alpha=settings.alpha,
    beta1=settings.beta1,
    # An adaptive beta2 is added to each step's stage.
    beta2=0.0 if settings.adaptive_beta2 else settings.beta2,
    normalize_bonus=settings.normalize_bonus,
  )
  discount = np.float32(settings.discount)
  return {
    name: dataclasses.replace(stage, discount=discount)
    for name, stage in table.items()
  }


def make_plan(
  settings: settings_lib.Settings,
  run: run_directory.RunDirectory,
  console: rich_console.Console,
) -> dict[str, stages.Stage]:
  """The stages to run now, those before a missing policy included.

  Raises:
    RunError: a policy is missing that this preset does not make by itself.
  """
  table = all_stages(settings)
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
    if not run.stage(name).is_finished(settings_lib.stage_steps(settings, name))
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
  """The policy that `base` or a stage ended with."""
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
  base = run.stage('base')
  has_base = base.source.exists() or base.is_finished(settings.pretrain.steps)
  return ['base'] * has_base + [
    name
    for name in all_stages(settings)
    if run.stage(name).is_finished(settings_lib.stage_steps(settings, name))
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


def given_first_attempts(
  settings: settings_lib.Settings,
  parts: assembly.Parts,
  base: Any,
  problems: Sequence[types.Problem],
  stage: str,
  turns: int,
) -> engine.GivenAttempts | None:
  """First attempts of the base policy for a share of Stage II's rows.

  They come from a fixed pool: the same problem always has the same ones. The
  first round(share * G) samples of each problem take them.
  """
  samples = settings.samples_per_problem
  count = round(settings.given_attempts_share * samples)
  if not count or not stage.startswith('stage2'):
    return None
  sampler = parts.sampler
  drawn = sampler.sample(
    parts.layout.view(base),
    problems,
    randomness.stream(settings.seed, 'collect', 'base', 0),
    samples_per_problem=count,
    turns=1,
    temperature=settings.temperature,
  )
  drawn_tokens, turn = map(processes.to_host, (drawn.tokens, drawn.turn))
  first = turn == 1
  width = sampler.limits[0]
  tokens = np.zeros((len(problems), samples, turns, width), np.int32)
  lengths = np.zeros((len(problems), samples, turns), np.int32)
  for row, (ids, mask) in enumerate(zip(drawn_tokens, first)):
    problem, sample = divmod(row, count)
    attempt = ids[mask]
    tokens[problem, sample, 0, : len(attempt)] = attempt
    lengths[problem, sample, 0] = len(attempt)
  return engine.GivenAttempts(
    jnp.asarray(tokens.reshape(-1, turns, width)),
    jnp.asarray(lengths.reshape(-1, turns)),
  )


def stage_now(
  settings: settings_lib.Settings,
  name: str,
  stage: stages.Stage,
  state: arrays.TrainState,
) -> stages.Stage:
  """The stage with the coefficients of this step."""
  if not _is_adaptive(settings, name):
    return stage
  # From the host: jit would compile once more for a stage on a device.
  return adaptive.with_beta2(stage, np.asarray(state.beta2))


def adapt(
  settings: settings_lib.Settings,
  name: str,
  state: arrays.TrainState,
  metrics: Mapping[str, Any],
) -> arrays.TrainState:
  """The state with beta2 moved towards its balance, where it adapts."""
  if not _is_adaptive(settings, name):
    return state
  magnitudes = sorted(m for m in metrics if m.startswith('advantage_magnitude'))

  def mean(metric):
    total, count = metrics[metric]
    return total / jnp.maximum(count, 1)

  beta2 = adaptive.adapt_beta2(
    state.beta2, mean('kl/turn1'), mean(magnitudes[-1])
  )
  return state.replace(beta2=beta2)


def _is_adaptive(settings: settings_lib.Settings, name: str) -> bool:
  return settings.adaptive_beta2 and name.startswith('stage1')
