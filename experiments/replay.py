"""Makes the update again that stopped a run for not being finite.

Several updates in a row whose loss or gradient was not finite stop a stage, and
the last one is kept. On any machine, on one device, this tells whether it is
not finite there, too, and which sequences are not, each alone.
"""

from collections.abc import Sequence
import dataclasses
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

  def measure(kept):
    # The update takes the state's memory.
    _, metrics = update.step(
      jax.tree.map(jnp.copy, state),
      anchor,
      *run.layout.put_batch((batch.replace(kept=kept), loss_mask)),
      coefficients,
    )
    return masked.means(metrics)

  bad = {n: v for n, v in measure(batch.kept).items() if not np.isfinite(v)}
  if not bad:
    run.console.print(f'{name}: the update is finite here.')
    return True
  said = ', '.join(f'{metric} {value}' for metric, value in bad.items())
  run.console.print(f'{name}: the update is not finite: {said}.', markup=False)
  texts = run.sampler.attempts(batch.trajectory)
  for i, alone in enumerate(np.eye(len(loss_mask), dtype=bool)):
    if not np.isfinite(measure(alone)['loss']):
      attempts = ' | '.join(attempt.text for attempt in texts[i])
      run.console.print(
        f'sequence {i} is not, alone: {attempts}', markup=False, highlight=False
      )
  return False


if __name__ == '__main__':
  sys.exit(main())
