"""Plans a run on a TPU slice: whether it fits, its disk, a range of its time.

  python -m experiments.plan --preset=gemma2_2b_math --topology=v5p-8

compiles the two programs of a training step, the rollout's episode and the
update, for that slice, on a machine without it. Any flag of experiments.train
changes what is planned, such as --micro-batch. The update is compiled once for
all stages, whose coefficients are among its arguments. Times are a bound below,
which no program can beat, and an estimate above (planning/roofline.py).
"""

from collections.abc import Sequence
import dataclasses
import json
import sys
from typing import Literal

import jax
from rich import console as rich_console

from experiments.config import command_line
from experiments.run import run_directory


@dataclasses.dataclass(frozen=True)
class Options:
  """The slice, and how to plan for it."""

  topology: str = 'v5e-8'
  """The slice, such as v5e-1, v5e-16, v5p-8, v6e-8."""
  attempt_tokens: int | None = None
  """Tokens of every attempt, for the range of time; None:
  --max-attempt-tokens."""
  level: Literal['O0', 'O1', 'default'] = 'O0'
  """Optimisation level of the compiler; default: the one that runs have. O0
  takes a fifth of its time and needs a little more memory."""
  json: bool = False
  """Print a record instead of tables."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Plans and prints; returns the exit code, 1 where the run does not fit."""
  options, rest = command_line.parse(
    Options,
    arguments,
    program='experiments.plan',
    document=__doc__,
    return_unknown_args=True,
  )
  # Nothing is run: an accelerator of this machine stays free for others.
  jax.config.update('jax_platforms', 'cpu')
  settings = command_line.parse_settings(rest, program='experiments.plan')
  from experiments.planning import advice, chips, estimate, report, workload

  try:
    chip, devices = chips.find(options.topology)
    work = workload.make(settings, devices)
  except (chips.TopologyError, run_directory.RunError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  plan = estimate.make(
    work, chip, attempt_tokens=options.attempt_tokens, level=options.level
  )
  fixes = advice.fixes(plan, work, options.topology)
  if options.json:
    record = report.record(plan, options.topology, fixes)
    print(json.dumps({'preset': settings.preset} | record, indent=2))
  else:
    title = f'{settings.preset} on a {options.topology}'
    console = rich_console.Console()
    report.print_plan(plan, title, options.level, fixes, console)
  return 0 if plan.fits else 1


if __name__ == '__main__':
  sys.exit(main())
