"""Makes one page of runs: `python -m experiments.report RUN [RUN ...]`.

Writes report.html, which needs no other file, and beside it in report/ every
plot as PNG and every table as CSV. Runs whose settings differ only in the seed
are one row, with mean, spread and interval. The page also has what
experiments.evaluate keeps in a run (--attempts=10, --scaling, --by=level, ...).
"""

from collections.abc import Sequence
import dataclasses
import logging
import sys

import tyro

from experiments.config import command_line
from experiments.reporting import report_page
from experiments.run import run_directory


@dataclasses.dataclass(frozen=True)
class Options:
  """The runs to report on, and where to write the report."""

  runs: tyro.conf.Positional[tuple[str, ...]] = ()
  """Run directories or their URLs, or directories of runs, such as
  experiments.compare's."""
  output: str | None = None
  """Directory of the report; None: the one given, for several ./report."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Writes the report and prints where it is; returns the exit code."""
  options = command_line.parse(
    Options, arguments, program='experiments.report', document=__doc__
  )
  if not options.runs:
    command_line.reject(
      'which runs? python -m experiments.report runs/tiny, for instance'
    )
  default = options.runs[0] if len(options.runs) == 1 else 'report'
  logging.basicConfig(format='%(levelname)s: %(message)s')
  try:
    directory = run_directory.RunDirectory(options.output or default)
    out = report_page.write(options.runs, directory.path)
    directory.push()
  except run_directory.RunError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except OSError as error:  # of a run that may not be written, most often
    print(
      f'error: {error}; the report goes to {directory}, or to --output=DIR',
      file=sys.stderr,
    )
    return 2
  print(directory.shown(out.page))
  print(f'{len(out.written)} plots and tables beside it')
  return 0


if __name__ == '__main__':
  sys.exit(main())
