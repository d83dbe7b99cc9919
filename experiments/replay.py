"""Makes the update again that stopped a run for not being finite.

Several updates in a row whose loss or gradient was not finite stop a stage, and
the last one is kept. On any machine, on one device, this tells whether it is
not finite there, too, and which sequences are not, each alone: it halves the
batch, and what is finite is not halved again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import itertools
import logging
import sys

import jax
import jax.numpy as jnp
import numpy as np
from rich import console as rich_console

from experiments import methods
from experiments.config import command_line
from experiments.run import building, context, policies, run_directory
from experiments.stages import not_finite, rl_stage
from score_jax.algorithm import masked
from score_jax.checkpoints import checkpoint_manifest

_MOST_NAMED = 4


@dataclasses.dataclass(frozen=True)
class Options:
  """The update to make again."""

  run_dir: str
  """Directory of the run."""
  stage: str
  """The stage that was stopped, such as stage1."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Exit code 0 where the update is not finite here either, 1 where it is."""
  options = command_line.parse(
    Options, arguments, program='experiments.replay', document=__doc__
  )
  logging.basicConfig(format='%(levelname)s: %(message)s')
  try:
    directory = run_directory.RunDirectory.existing(options.run_dir)
    run = building.reopen(
      directory,
      rich_console.Console(),
      dtype=not_finite.dtype(directory, options.stage),
      on_one_device=True,
    )
    return 1 if replay(run, options.stage) else 0
  except (run_directory.RunError, *checkpoint_manifest.ERRORS) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2


def replay(run: context.Run, name: str) -> bool:
  """Makes the kept update of a stage again; whether it is finite here.

  Raises:
    RunError: there is none, or it cannot be read.
  """
  stage = run.stages.get(name)
  if not isinstance(stage, methods.RLStage):
    raise run_directory.RunError(f'{name} is no stage that learns by RL')
  base = policies.stage_policy(run, methods.BASE)
  reference = base
  if stage.reference != methods.BASE:
    reference = policies.stage_policy(run, stage.reference)
  policy, (batch, loss_mask, coefficients) = not_finite.restore(run, name, base)
  update = rl_stage.make_update(run, stage.steps)
  state = policies.begin_state(run, policy, update.optimizer)
  anchor = policies.make_reference(run, reference)

  def measure(rows):
    # The other rows are replaced, not masked by `kept`: 0 times NaN is NaN, in
    # the gradient. As many rows as before: each number would be compiled.
    rows = np.resize(rows, len(loss_mask))
    sequences = jax.tree.map(lambda leaf: leaf[rows], (batch, loss_mask))
    # The update takes the state's memory.
    _, metrics = update.step(
      jax.tree.map(jnp.copy, state),
      anchor,
      *run.layout.put_batch(sequences),
      coefficients,
    )
    return masked.means(metrics)

  rows = np.arange(len(loss_mask))
  values = measure(rows)
  if _is_finite(values):
    run.console.print(f'{name}: the update is finite here.')
    return True
  said = ', '.join(
    f'{metric} {value}'
    for metric, value in values.items()
    if not np.isfinite(value)
  )
  run.console.print(f'{name}: the update is not finite: {said}.', markup=False)
  run.console.print(
    f'Halving its {len(rows)} sequences until those that are not stand alone: '
    f'some {2 * (len(rows) - 1).bit_length()} updates or more ...'
  )
  tried = []

  def is_finite(part):
    tried.append(_is_finite(measure(part)))
    return tried[-1]

  found = alone(rows, is_finite)
  named = list(itertools.islice(found, _MOST_NAMED))
  _say(run, batch.trajectory, named, any(tried))
  return False


def alone(rows: np.ndarray, is_finite: Callable[..., bool]) -> Iterator[int]:
  """Rows of a set that are not finite, each alone, found by halving the set.

  Args:
    rows: int [N], a set that is not finite.
    is_finite: whether a set of rows is; it is left out whole.
  """
  if len(rows) == 1:
    yield int(rows[0])
    return
  # Every other one: neighbours are samples of one problem, and the first few
  # that are found are to tell of more than one.
  for half in (rows[::2], rows[1::2]):
    if not is_finite(half):
      yield from alone(half, is_finite)


def _is_finite(values: Mapping[str, float]) -> bool:
  """Whether an update with these metrics is made, not skipped."""
  return bool(np.isfinite([values['loss'], values['grad_norm']]).all())


def _say(run, trajectory, named, is_any_finite) -> None:
  """Says which sequences are not finite, or that it is none of them."""
  if not named:
    run.console.print('No sequence is not finite alone: it takes several.')
    return
  if len(named) > 1 and not is_any_finite:
    run.console.print(
      'Nor is any part of it that was tried, down to single sequences: it is '
      'not a sequence, it is the policy itself.'
    )
    return
  texts = run.sampler.attempts(trajectory)
  for row in named:
    attempts = ' | '.join(attempt.text for attempt in texts[row])
    run.console.print(
      f'sequence {row} is not, alone: {attempts}', markup=False, highlight=False
    )
  if len(named) == _MOST_NAMED:
    run.console.print('and others may be.')


if __name__ == '__main__':
  sys.exit(main())
