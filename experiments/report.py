"""One page on what came of runs: `python -m experiments.report RUN [RUN ...]`.

Writes report.html, which needs nothing else to be looked at, and beside it in
report/ every picture as PNG and every table as CSV. Runs whose settings differ
in the seed alone are one line, with mean and spread. What experiments.evaluate
has kept in a run (--attempts=10, --scaling, --by=level, ...) is on the page,
too.
"""

from collections.abc import Sequence
import dataclasses
import logging
import pathlib
import sys

import tyro

from experiments.config import command_line
from experiments.reporting import output, page, runs
from experiments.run import run_directory
from score_jax.io import json_files


@dataclasses.dataclass(frozen=True)
class Options:
  """Which runs, and where to."""

  runs: tyro.conf.Positional[tuple[str, ...]] = ()
  """Run directories, or directories of runs, such as experiments.compare's."""
  output: str | None = None
  """Directory of the report; None: the one given, of several ./report."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Writes the report and says where it is; the exit code."""
  options = command_line.parse(
    Options, arguments, program='experiments.report', document=__doc__
  )
  if not options.runs:
    command_line.reject(
      'which runs? python -m experiments.report runs/tiny, for instance'
    )
  logging.basicConfig(format='%(levelname)s: %(message)s')
  try:
    out = write(options)
  except run_directory.RunError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  print(f'{out.page}\n{len(out.written)} pictures and tables beside it')
  return 0


def write(options: Options) -> output.Output:
  """Reads the runs and writes the report.

  Raises:
    RunError: one of them is no run, or has no results.
  """
  paths = [path for given in options.runs for path in runs.find(given)]
  groups = runs.make_groups([runs.read(path) for path in paths])
  default = options.runs[0] if len(options.runs) == 1 else 'report'
  out = output.Output(pathlib.Path(options.output or default))
  json_files.write_text(out.page, page.render(groups, out))
  return out


if __name__ == '__main__':
  sys.exit(main())
