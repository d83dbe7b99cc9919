"""A run's policies: which exist, reading them, starting a stage from one."""

from collections.abc import Iterator
import contextlib
import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from experiments import methods
from experiments.run import base_model, context, run_directory
from score_jax import arrays, distributed
from score_jax.checkpoints import checkpoint_manifest, checkpointing
from score_jax.models import lora
from score_jax.rollout import randomness
from score_jax.training import reference_policy, train_state

# The preset that trains missing base and Stage I policies by itself.
_SELF_SUFFICIENT = 'tiny'


def make_plan(run: context.Run) -> methods.Stages:
  """The stages of --stage, and those before them, which may have to be made.

  Raises:
    RunError: a policy is missing that this preset does not make by itself.
  """
  settings, table = run.settings, run.stages
  if not table:
    return table
  wanted = [
    name
    for name in table
    if settings.stage in ('all', name.removeprefix('stage'))
  ]
  names = list(table)
  before = names[: names.index(wanted[0])]
  missing = [
    name
    for name in before
    if not run.directory.stage(name).is_finished(table[name].steps)
  ]
  if missing and settings.preset != _SELF_SUFFICIENT:
    first = missing[0].removeprefix('stage')
    raise run_directory.RunError(
      f'--stage={settings.stage} starts from the policy of {missing[-1]}, and '
      f'{run.directory.stage(missing[-1]).place} has none that is finished; '
      f'make it with: python -m experiments.train --preset={settings.preset} '
      f'--run-dir={run.directory} --stage={first}'
    )
  if missing:
    run.console.print(
      f'--stage={settings.stage} needs {" and ".join(missing)} first, which '
      f'{run.directory} does not have: making it now.'
    )
  return {name: table[name] for name in table if name in (*before, *wanted)}


def begin_state(
  run: context.StoredRun, policy: Any, optimizer: optax.GradientTransformation
) -> arrays.TrainState:
  """Initial state of a stage that starts from a policy.

  Its params are a copy of the policy's weights or, where adapters are trained,
  of the adapters alone, which are made where the policy has none.
  """
  layout = run.layout
  if layout.adapters is None:
    trained = reference_policy.on_device(policy)
  else:
    trained = lora.adapters_of(policy)
    if not trained:
      key = randomness.stream(run.settings.seed, 'init', 'lora', 0)
      trained = layout.new_adapters(policy, key)
    trained = jax.tree.map(distributed.put, trained, layout.trained)
  return train_state.init_state(trained, optimizer, beta2=run.settings.beta2)


def keep(run: context.StoredRun, policy: Any) -> Any:
  """A finished policy as it is kept for stages that start from or refer to it.

  In host memory with --offload-reference: otherwise the base policy, which is
  every stage's reference, would stay on the devices beside its host copy.

  Raises:
    RunError: the devices have no memory on the host.
  """
  if run.layout.adapters or not run.settings.offload_reference:
    return policy
  return _reference(policy, offload=True)


def needed_later(table: methods.Stages, name: str) -> set[str]:
  """Names of the policies that the stages after this one need."""
  names = [methods.BASE, *table]
  later = [table[n] for n in names[names.index(name) + 1 :]]
  return {
    policy
    for stage in later
    for field in ('start', 'reference', 'source')
    if (policy := getattr(stage, field, None))
  }


def make_reference(run: context.StoredRun, policy: Any) -> Any:
  """Parameters of the KL-anchor of a stage, in --reference-dtype.

  Raises:
    RunError: the devices have no memory on the host.
  """
  if run.layout.adapters:
    # Adapters leave the base weights alone: the reference needs no copy.
    return policy
  return _reference(
    policy,
    dtype=_frozen_dtype(run),
    offload=run.settings.offload_reference,
  )


def _reference(policy: Any, **options: Any) -> Any:
  try:
    return reference_policy.make_reference(policy, **options)
  except ValueError as error:
    raise run_directory.RunError(f'--offload-reference: {error}') from error


def _frozen_dtype(run: context.StoredRun) -> Any:
  """Dtype of weights that are not trained."""
  name = run.settings.reference_dtype
  return run.layout.dtype if name == 'auto' else jnp.dtype(name)


def restore(
  run: context.StoredRun, name: str, which: str, base: Any = None
) -> Any:
  """A policy from a stage's latest or best checkpoint.

  Args:
    run: the run.
    name: name of the stage, or 'base'.
    which: 'latest' or 'best'.
    base: the base policy, where a stage's checkpoints hold only adapters.

  Raises:
    RunError: there is none, or it cannot be read.
  """
  layout, directory = run.layout, run.directory.stage(name)
  if name == methods.BASE:
    # Its checkpoints hold all weights, also where stages train adapters alone.
    layout = layout.without_adapters()
  target = jax.tree.map(
    lambda s, sharding: jax.ShapeDtypeStruct(
      s.shape, s.dtype, sharding=sharding
    ),
    layout.trained_shapes,
    layout.trained,
  )
  with checkpointing.Checkpoints(
    directory.checkpoints, read_only=True
  ) as checkpoints:
    try:
      with explaining_damage(directory):
        # Without the optimizer's moments, which are twice as large.
        restored = checkpoints.restore({'params': target}, which, partial=True)
    except checkpoint_manifest.MismatchError as error:
      raise run_directory.RunError(str(error)) from error
  if restored is None:
    raise run_directory.RunError(
      f'{directory.place} has no checkpoint; without that directory, the '
      f'command that started {run.directory} makes {name} again'
    )
  return lora.complete(restored.state['params'], base)


@contextlib.contextmanager
def explaining_damage(
  directory: run_directory.StageDirectory,
) -> Iterator[None]:
  """Adds to the error of damaged checkpoints how to make them again.

  Raises:
    RunError: a checkpoint of the stage is damaged.
  """
  try:
    yield
  except checkpoint_manifest.DamagedError as error:
    raise run_directory.RunError(
      f'{error}; without {directory.place}, the command that started the run '
      f'makes {directory.name} again'
    ) from error


def stage_policy(run: context.StoredRun, name: str) -> Any:
  """Parameters of the base policy (`base`) or of a finished stage.

  Raises:
    RunError: it does not exist, or cannot be read.
  """
  stage = run.stages.get(name)
  if isinstance(stage, methods.PromptStage):
    return stage_policy(run, stage.start)
  if name == methods.BASE:
    if run.settings.init_from is None:
      return restore(run, name, 'latest')
    # In the dtype of the reference: training makes its own float32 copy.
    return base_model.import_weights(
      run.settings,
      run.config,
      dtype=_frozen_dtype(run),
      shardings=run.layout.update.params,
    )
  base = stage_policy(run, methods.BASE) if run.layout.adapters else None
  return restore(run, name, chosen(run, name), base)


def chosen(run: context.StoredRun, name: str) -> Literal['latest', 'best']:
  """Which of a finished stage's checkpoints is its policy."""
  is_best = run.settings.checkpoint_selection == 'best'
  return 'best' if is_best and name != methods.BASE else 'latest'


def shrink_before(run: context.StoredRun, name: str) -> None:
  """Keeps only the policies of the stages before one. Collective.

  To be called when it has begun: no earlier one can be made longer then.
  """
  names = [methods.BASE, *run.stages]
  for earlier in names[: names.index(name)]:
    directory = run.directory.stage(earlier).checkpoints
    if distributed.agree(directory.is_dir()):
      with checkpointing.Checkpoints(directory) as checkpoints:
        checkpoints.keep_parameters(chosen(run, earlier))


def has_base(directory: run_directory.RunDirectory) -> bool:
  """Whether a run has its base policy. A collective."""
  base = directory.stage(methods.BASE)
  is_imported = distributed.agree(base.source.exists())
  steps = directory.read_settings().pretrain.steps
  return is_imported or base.is_finished(steps)


def finished_policies(directory: run_directory.RunDirectory) -> list[str]:
  """Names of the policies that a run has finished, in order. A collective.

  Raises:
    RunError: there is no run.
  """
  stages = methods.stages(directory.read_settings())
  return [methods.BASE] * has_base(directory) + [
    name
    for name, stage in stages.items()
    if directory.stage(name).is_finished(stage.steps)
  ]


def choose_finished(
  directory: run_directory.RunDirectory, name: str | None = None
) -> str:
  """Checks that a policy is finished; returns its name (None: the last one's).

  Raises:
    RunError: it is not finished, or does not exist.
  """
  finished = finished_policies(directory)
  name = name or (finished or [methods.BASE])[-1]
  if name not in finished:
    raise run_directory.RunError(
      f'{directory} has no finished policy {name!r}; it has: '
      f'{", ".join(finished) or "none"}. To finish the run: python -m '
      f'experiments.train --preset={directory.read_settings().preset} '
      f'--run-dir={directory}'
    )
  return name


def run_of(run: context.Run, name: str) -> context.Run:
  """The run with the instruction of a policy: Self-Refine has its own."""
  if not isinstance(run.stages.get(name), methods.PromptStage):
    return run
  text = run.settings.self_refine_instruction or run.task.refine_instruction
  task = dataclasses.replace(run.task, instruction=text)
  sampler = dataclasses.replace(run.sampler, task=task)
  return dataclasses.replace(run, task=task, sampler=sampler)
