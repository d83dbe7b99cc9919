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
  stage: run_directory.StageDirectory,
  step: int,
  skipped: int,
  sequences: arrays.Trajectory,
) -> None:
  """Says that an update was skipped; leaves the last episodes of too many.

  Args:
    stage: directory of the stage.
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
    stage.name,
    step,
  )
  if skipped < _MOST_SKIPPED:
    return
  path = stage.path / 'not_finite.npz'
  fields = {k: distributed.to_host(v) for k, v in vars(sequences).items()}
  distributed.by_first(lambda: np.savez(path, **fields))
  raise FloatingPointError(
    f'{skipped} updates in a row had a loss or gradient that is not finite; '
    f'the last episodes are in {path}. Try a smaller --learning-rate or '
    '--max-grad-norm, and continue from the last checkpoint'
  )


def stop_without_attempts(
  stage: run_directory.StageDirectory,
  updates: int,
  values: Mapping[str, float],
) -> None:
  """Ends a stage whose attempts teach nothing.

  Args:
    stage: directory of the stage.
    updates: updates in a row in which no attempt could be learnt from.
    values: metrics of the last one.

  Raises:
    RunError: there were too many.
  """
  if updates < _MOST_WITHOUT_ATTEMPTS:
    return
  reasons = [
    f'{name} {values[name]:g}'
    for name in values
    if name.startswith(('reward/ungraded', 'reward/errors', 'truncated/'))
  ]
  raise run_directory.RunError(
    f'{stage.name}: {updates} updates in a row had no attempt to learn from, '
    'as none was graded or all were cut off; in the last one: '
    f'{", ".join(reasons)}. If --reward fails, the warnings above say why; '
    'where --overlong=mask leaves nothing, raise --max-attempt-tokens. The '
    'same command goes on'
  )
