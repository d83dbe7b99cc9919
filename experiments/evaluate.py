"""Repeats a run's evaluation from its saved policies, or makes another one.

`python -m experiments.evaluate --run-dir=DIR` gives the numbers of the run's
results.json again and changes nothing on disk. Others, kept for
experiments.report:

  --attempts=10 [--history=last]           more attempts, no retraining
  --scaling                                votes of 2 to 32 attempts
  --samples=32 --temperature=0.7 --pass-at=1,8,32 --majority-at=8,32
  --by=level                               by difficulty
  --given-attempts=FILE_OR_POLICY          corrections of given first attempts
  --compare=RUN/stage2                     paired tests against another policy
  --data.file=FILE                         your own problems
  --init-from=PATH --task=math             a checkpoint's policy, as it is
"""

from collections.abc import Sequence
import contextlib
import logging
import pathlib
import sys
from typing import Any

from rich import console as rich_console

from experiments.config import command_line, schema
from experiments.evaluations import (
  checkpoint_run,
  evaluation_options,
  evaluation_problems,
  kept_evaluations,
)
from experiments.reporting import measure_tables, tables
from experiments.run import (
  building,
  outcome,
  policies,
  processes,
  run_directory,
)
from score_jax.evaluation import evaluate as evaluate_lib
from score_jax.evaluation import measures
from score_jax.io import json_files
from score_jax.tasks import registry

# A wider table of transitions between all turns would not fit a terminal.
_MOST_TURNS_IN_TABLE = 3


def main(arguments: Sequence[str] | None = None) -> int:
  """Evaluates and prints the table; the exit code."""
  logging.basicConfig(format='%(levelname)s: %(message)s')
  arguments = list(sys.argv[1:] if arguments is None else arguments)
  if checkpoint_run.is_asked_for(arguments):
    try:
      arguments = checkpoint_run.begin(arguments)
    except run_directory.RunError as error:
      print(f'error: {error}', file=sys.stderr)
      return 2
  options = command_line.parse(
    evaluation_options.Options,
    arguments,
    program='experiments.evaluate',
    document=__doc__,
  )
  options = evaluation_options.complete(options)
  mistakes = evaluation_options.find_errors(options)
  if mistakes:
    command_line.refuse('\n       '.join(mistakes))
  run = run_directory.RunDirectory(options.run_dir)
  try:
    processes.join(options.processes)
    console = processes.make_console()
    measured = evaluate(options, run)
  except run_directory.RunError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  _print(run.read_settings(), measured, console)
  name = evaluation_options.name_of(options)
  if name:
    path = kept_evaluations.write(run, name, options, measured)
    console.print(f'kept as {path}', markup=False, soft_wrap=True)
  elif not run.results.exists():
    json_files.write_json(run.results, measured['policies'])
  elif options.temperature == 0 and options.samples == 1:
    _check_same(measured['policies'], outcome.read_results(run), console)
  if options.output:
    json_files.write_json(pathlib.Path(options.output), measured['policies'])
    console.print(f'written to {options.output}', markup=False)
  return 0


def evaluate(
  options: evaluation_options.Options, run: run_directory.RunDirectory
) -> dict[str, Any]:
  """What was measured: `policies` by name, and perhaps their `comparison`.

  Raises:
    RunError: a run, a policy or data are not there.
  """
  if options.compare:
    evaluation_problems.split_policy(options.compare, run, '--compare')
  settings, parts = evaluation_problems.reopen(options, run)
  names = policies.finished_policies(settings, run)
  if options.policy != evaluation_options.ALL or not names:
    names = [policies.choose_finished(settings, run, options.policy)]
  key = registry.answer_key(settings.task, settings.data.grader)
  with contextlib.closing(building.make_grader(parts.task)) as grader:
    judged = {
      name: _judge(options, settings, parts, run, name, grader)
      for name in names
    }
    try:
      measured = {
        'policies': {
          name: measures.measure(options, evaluation, key, grader)
          for name, evaluation in judged.items()
        }
      }
      if options.compare:
        measured['comparison'] = _compare(options, run, judged, grader)
    except ValueError as error:
      raise run_directory.RunError(str(error)) from error
  return measured


def _judge(
  options, settings, parts, run, name, grader
) -> evaluate_lib.Evaluation:
  own = policies.parts_for(settings, parts, name)
  policy = policies.stage_policy(settings, parts, run, name)
  return evaluate_lib.evaluate(
    own.sampler,
    own.layout.view(policy),
    own.task.test,
    grader,
    outcome.evaluation_key(settings),
    samples_per_problem=options.samples,
    greedy=options.temperature == 0,
    temperature=options.temperature or 1.0,
    history=options.history,
  )


def _compare(options, run, judged, grader) -> dict[str, Any]:
  """Paired tests of the judged policies against the one that is asked for."""
  other, name = evaluation_problems.split_policy(
    options.compare, run, '--compare'
  )
  is_own = other.path.resolve() == run.path.resolve()
  if is_own and name in judged:
    against = judged[name]
  else:
    settings, parts = evaluation_problems.reopen(options, other)
    against = _judge(options, settings, parts, other, name, grader)
  return {
    'against': options.compare,
    'tests': {
      each: measures.compare(against, evaluation)
      for each, evaluation in judged.items()
      if not (is_own and each == name)
    },
  }


def _print(
  settings: schema.Settings,
  measured: dict[str, Any],
  console: rich_console.Console,
) -> None:
  """Prints the paper's table and whatever else was measured."""
  results = measured['policies']
  turns = max(map(tables.number_of_turns, results.values()))
  if turns > _MOST_TURNS_IN_TABLE:
    console.print(measure_tables.attempts(results))
  else:
    console.print(outcome.make_table(settings, results))
  for table in measure_tables.others(results):
    console.print(table)
  if 'comparison' in measured:
    console.print(measure_tables.comparison(**measured['comparison']))


def _check_same(
  results: dict[str, Any],
  there: dict[str, Any],
  console: rich_console.Console,
) -> None:
  """Says whether the run's own evaluation found the same."""
  for name, measured in results.items():
    before = there.get(name)
    if before is None or before['problems'] != measured['problems']:
      continue
    summary = {key: measured.get(key) for key in before}
    same = 'the same numbers as' if before == summary else 'OTHER numbers than'
    console.print(f'{name}: {same} in results.json', highlight=False)


if __name__ == '__main__':
  sys.exit(main())
