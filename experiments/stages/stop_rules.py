"""When a stage ends with an error instead of wasting what is left of it."""

from collections.abc import Mapping
import logging

import numpy as np

from experiments.run import run_directory
from score_jax import arrays, distributed

_LOGGER = logging.getLogger(__name__)
_MOST_SKIPPED = 5
_MOST_WITHOUT_ATTEMPTS = 5


def stop_if_not_finite(
  directory: run_directory.RunDirectory,
  name: str,
  step: int,
  skipped: int,
  sequences: arrays.Trajectory,
) -> None:
  """Says that an update was skipped; leaves the last episodes of too many.

  Args:
    directory: the run's.
    name: the stage's.
    step: number of updates, this one included.
    skipped: updates in a row whose loss or gradient was not finite.
    sequences: this update's batch.

  Raises:
    FloatingPointError: too many in a row were skipped.
  """
  if not skipped:
    return
  _LOGGER.warning(
    '%s, step %d: loss or gradient was not finite; the update was skipped',
    name,
    step,
  )
  if skipped < _MOST_SKIPPED:
    return
  path = directory.stage(name).path / 'not_finite.npz'
  fields = {k: distributed.to_host(v) for k, v in vars(sequences).items()}
  distributed.by_first(lambda: np.savez(path, **fields))
  raise FloatingPointError(
    f'{skipped} updates in a row had a loss or gradient that is not finite; '
    f'the last episodes are in {directory.shown(path)}. Try a smaller '
    '--learning-rate or --max-grad-norm, and continue from the last checkpoint'
  )


def stop_without_attempts(
  name: str,
  updates: int,
  values: Mapping[str, float],
) -> None:
  """Ends a stage whose attempts teach nothing.

  Args:
    name: the stage's.
    updates: updates in a row in which no attempt could be learnt from.
    values: metrics of the last one.

  Raises:
    RunError: there were too many.
  """
  if updates < _MOST_WITHOUT_ATTEMPTS:
    return
  reasons = [
    f'{metric} {value:g}'
    for metric, value in values.items()
    if metric.startswith(('reward/ungraded', 'reward/errors', 'truncated/'))
  ]
  raise run_directory.RunError(
    f'{name}: {updates} updates in a row had no attempt to learn from, '
    'as none was graded or all were cut off; in the last one: '
    f'{", ".join(reasons)}. If --reward fails, the warnings above say why; '
    'where --overlong=mask leaves nothing, raise --max-attempt-tokens. The '
    'same command goes on'
  )
