"""When a stage ends with an error instead of wasting what is left of it."""

from collections.abc import Mapping
import logging
from typing import Any

from experiments.run import context, run_directory
from experiments.stages import not_finite
from score_jax import arrays

_LOGGER = logging.getLogger(__name__)
_MOST_SKIPPED = 5
_MOST_WITHOUT_ATTEMPTS = 5
_FAILURES = ('reward/errors', 'reward/timeouts')


def stop_if_not_finite(
  run: context.StoredRun,
  name: str,
  step: int,
  state: arrays.TrainState,
  inputs: Any,
) -> None:
  """Says that an update was skipped; keeps the last one of too many.

  Args:
    run: the run.
    name: the stage's name.
    step: number of updates, this one included.
    state: after it; `skipped` counts updates in a row whose loss or gradient
      was not finite.
    inputs: the update's, see `not_finite.keep`.

  Raises:
    FloatingPointError: too many in a row were skipped.
  """
  skipped = int(state.skipped)
  if not skipped:
    return
  _LOGGER.warning(
    '%s, step %d: loss or gradient was not finite; the update was skipped',
    name,
    step,
  )
  if skipped < _MOST_SKIPPED:
    return
  place = not_finite.keep(run, name, step, state.params, inputs)
  again = ''
  if isinstance(inputs, tuple):  # of reinforcement learning
    again = (
      '; on any machine that has the run, python -m experiments.replay '
      f'--run-dir={run.directory} --stage={name} makes it again'
    )
  raise FloatingPointError(
    f'{skipped} updates in a row had a loss or gradient that is not finite. '
    f'The last one is in {place}{again}. To go on from the last checkpoint '
    'with a smaller --learning-rate or --max-grad-norm, add --fork-from='
    f'{run.directory} --run-dir=DIR to the command; if that ends like this, '
    f'the checkpoint is ruined, too: remove DIR/{name}, and the same command '
    'begins the stage anew'
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
    if metric in ('reward/ungraded', *_FAILURES)
    or metric.startswith('truncated/')
  ]
  why = ''
  if any(values.get(metric) for metric in _FAILURES):
    why = 'The warnings above say why --reward fails. '
  elif values.get('reward/ungraded'):
    why = 'For what is ungraded, --reward returned None. '
  raise run_directory.RunError(
    f'{name}: {updates} updates in a row had no attempt to learn from, '
    'as none was graded or all were cut off; in the last one: '
    f'{", ".join(reasons)}. {why}Where --overlong=mask leaves nothing, raise '
    '--max-attempt-tokens. The same command goes on'
  )
