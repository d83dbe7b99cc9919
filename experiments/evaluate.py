"""Repeats a run's evaluation from its saved policies, or makes another one.

`python -m experiments.evaluate --run-dir=DIR` gives the numbers of the run's
results.json again and changes nothing on disk.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import logging
import pathlib
import sys
from typing import Any

from rich import console as rich_console

from experiments import (
  assembly,
  files,
  flags,
  outcome,
  policies,
  run_directory,
)
from experiments import settings as settings_lib

ALL = 'all'


@dataclasses.dataclass(frozen=True)
class Options:
  """Which policies to evaluate, and how."""

  run_dir: str = 'runs/tiny'
  """Directory of the run; its settings are used."""
  policy: str = ALL
  """base, a stage (stage1, stage2), or all that are finished."""
  eval_problems: int | None = None
  """Held-out problems, at most as many as there are; None: as in the run."""
  temperature: float = 0.0
  """Sampling temperature; 0: greedy, as in the run."""
  samples: int = 1
  """Episodes of each problem; more than one needs a --temperature."""
  output: str | None = None
  """JSON file to write the numbers to; None: they are only printed."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Evaluates and prints the table; the exit code."""
  options = flags.parse(
    Options, arguments, program='experiments.evaluate', document=__doc__
  )
  _refuse_mistakes(options)
  logging.basicConfig(format='%(levelname)s: %(message)s')
  console = rich_console.Console()
  run = run_directory.RunDirectory(options.run_dir)
  try:
    results = evaluate(options, run)
  except run_directory.RunError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  console.print(outcome.make_table(run.read_settings(), results))
  if options.temperature == 0:
    _compare(results, outcome.read_results(run), console)
  if options.output:
    files.write_json(pathlib.Path(options.output), results)
    console.print(f'written to {options.output}', markup=False)
  return 0


def evaluate(
  options: Options, run: run_directory.RunDirectory
) -> dict[str, Any]:
  """The summary of each policy, by its name.

  Raises:
    RunError: the run or the policy is not there.
  """
  settings, parts = assembly.reopen(run)
  names = policies.finished_policies(settings, run)
  if options.policy != ALL or not names:
    names = [policies.choose_finished(settings, run, options.policy)]
  if options.eval_problems:
    settings = dataclasses.replace(
      settings, eval_problems=options.eval_problems
    )
  with contextlib.closing(assembly.make_grader(parts.task)) as grader:
    return {
      name: _evaluate(options, settings, parts, run, name, grader)
      for name in names
    }


def _evaluate(
  options, settings: settings_lib.Settings, parts, run, name, grader
):
  evaluation = outcome.evaluate_policy(
    settings,
    policies.parts_for(settings, parts, name),
    policies.stage_policy(settings, parts, run, name),
    grader,
    samples_per_problem=options.samples,
    temperature=options.temperature,
  )
  return evaluation.summary()


def _refuse_mistakes(options: Options) -> None:
  if options.eval_problems is not None and options.eval_problems < 1:
    flags.refuse(f'--eval-problems={options.eval_problems}: must be at least 1')
  if not 0 <= options.temperature < float('inf'):
    flags.refuse(f'--temperature={options.temperature}: must be at least 0')
  if options.samples < 1:
    flags.refuse(f'--samples={options.samples}: must be at least 1')
  if options.samples > 1 and options.temperature == 0:
    flags.refuse(
      f'--samples={options.samples}: greedy episodes of a problem are all the '
      'same; give a --temperature, such as --temperature=0.7'
    )
  output = options.output and pathlib.Path(options.output).resolve()
  if output and not output.parent.is_dir():
    flags.refuse(f'--output={options.output}: there is no {output.parent}')


def _compare(
  results: dict[str, Any],
  there: dict[str, Any],
  console: rich_console.Console,
) -> None:
  """Says whether the run's own evaluation found the same."""
  for name, summary in results.items():
    before = there.get(name)
    if before is None or before['problems'] != summary['problems']:
      continue
    same = 'the same numbers as' if before == summary else 'OTHER numbers than'
    console.print(f'{name}: {same} in results.json', highlight=False)


if __name__ == '__main__':
  sys.exit(main())
