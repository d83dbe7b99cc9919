"""The last of the updates that were not finite: kept, to be made again.

In STAGE/not_finite/ of a run: the policy, as a checkpoint, and batch.npz with
the other arguments of the update, NaN and all.
"""

from typing import Any

from etils import epath
import numpy as np

from experiments.run import context, policies, run_directory
from score_jax import arrays, distributed
from score_jax.algorithm import stage_coefficients
from score_jax.checkpoints import checkpoint_manifest, checkpointing

# Arguments of an update of reinforcement learning, but for its policies.
Inputs = tuple[arrays.TrainBatch, np.ndarray, stage_coefficients.Stage]
_NAMES = ('batch', 'loss_mask', 'coefficients')


def keep(
  run: context.StoredRun, name: str, step: int, params: Any, inputs: Any
) -> epath.Path:
  """Keeps an update, in place of an earlier one; where it is. Collective.

  Args:
    run: the run.
    name: the stage's name.
    step: number of updates, this one included.
    params: what is trained; it is finite, as such updates are skipped.
    inputs: `Inputs`, or sequences where a stage is supervised.
  """
  directory = _directory(run, name)
  if isinstance(inputs, tuple):
    inputs = dict(zip(_NAMES, inputs, strict=True))
  values = {
    key: distributed.to_host(leaf)
    for key, leaf in checkpoint_manifest.flatten(inputs).items()
  }

  def write():
    if directory.place.exists():
      directory.place.rmtree()
    directory.path.mkdir(parents=True, exist_ok=True)
    np.savez(_batch(directory), dtype=str(np.dtype(run.layout.dtype)), **values)

  distributed.by_first(write)
  with checkpointing.Checkpoints(directory.checkpoints) as checkpoints:
    checkpoints.save(step, {'params': params})
  run.directory.push()
  return directory.place


def dtype(run_dir: run_directory.RunDirectory, name: str) -> str:
  """Number format of the activations of a stage's kept update.

  Raises:
    RunError: there is none.
  """
  path = _batch(run_dir.stage(f'{name}/not_finite'))
  if not path.exists():
    raise run_directory.RunError(
      f'{run_dir} has no {path.relative_to(run_dir.path)}: {name} was not '
      'stopped by updates that are not finite'
    )
  with np.load(path) as file:
    return str(file['dtype'])


def restore(run: context.StoredRun, name: str, base: Any) -> tuple[Any, Inputs]:
  """The policy and the inputs of a stage's kept update.

  Args:
    run: the run.
    name: the stage's name.
    base: the base policy, where adapters alone are trained.

  Raises:
    RunError: it cannot be read, or is of a supervised stage.
  """
  directory = _directory(run, name)
  with np.load(_batch(directory)) as file:
    values = dict(file)
  if 'loss_mask' not in values:
    raise run_directory.RunError(
      f'{name} is supervised, and updates of reinforcement learning alone are '
      f'made again; {directory.place} has its sequences'
    )

  def part(prefix):
    return {
      key.removeprefix(prefix): value
      for key, value in values.items()
      if key.startswith(prefix)
    }

  batch = arrays.TrainBatch(
    arrays.Trajectory(**part('batch/trajectory/')),
    values['batch/advantages'],
    values.get('batch/kept'),
  )
  coefficients = stage_coefficients.Stage(**part('coefficients/'))
  policy = policies.restore(run, f'{name}/not_finite', 'latest', base)
  return policy, (batch, values['loss_mask'], coefficients)


def _directory(run, name) -> run_directory.StageDirectory:
  return run.directory.stage(f'{name}/not_finite')


def _batch(directory: run_directory.StageDirectory):
  return directory.path / 'batch.npz'
