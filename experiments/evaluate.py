"""Evaluates the saved policies of a run, as the run did or in another way.

`python -m experiments.evaluate --run-dir=DIR` repeats the run's own evaluation,
with the numbers of results.json, and changes nothing on disk. Others, kept for
experiments.report:

  --attempts=10 [--history=last]           more attempts, no retraining
  --scaling                                votes of 2 to 32 attempts
  --samples=32 --temperature=0.7 --pass-at=1,8,32 --majority-at=8,32
  --by=level                               by difficulty
  --given-attempts=FILE_OR_POLICY          corrections of off-policy attempts
  --compare=RUN/stage2                     paired tests against another policy
  --data.file=FILE                         your own problems
  --init-from=PATH --task=math             a checkpoint's policy, as it is
"""

from collections.abc import Mapping, Sequence
import logging
import pathlib
import sys
from typing import Any

from rich import console as rich_console

from experiments import methods
from experiments.config import schema
from experiments.evaluations import (
  attempts_shown,
  checkpoint_run,
  evaluation_options,
  evaluation_problems,
  kept_evaluations,
)
from experiments.reporting import measure_tables, tables
from experiments.run import (
  building,
  context,
  outcome,
  policies,
  processes,
  run_directory,
)
from score_jax.evaluation import evaluate, measures
from score_jax.io import json_files
from score_jax.tasks import registry

# A wider table of transitions between all turns would not fit a terminal.
_MOST_TURNS_IN_TABLE = 3


def main(arguments: Sequence[str] | None = None) -> int:
  """Evaluates and prints the table; returns the exit code."""
  logging.basicConfig(format='%(levelname)s: %(message)s')
  arguments = list(sys.argv[1:] if arguments is None else arguments)
  try:
    if checkpoint_run.is_asked_for(arguments):
      arguments = checkpoint_run.begin(arguments)
    options = evaluation_options.parse(arguments, __doc__)
    directory = run_directory.RunDirectory.existing(options.run_dir)
    processes.join(options.processes)
    console = processes.make_console()
    measured, graded = measure_policies(options, directory, console)
    attempts_shown.show(console, graded, options.show)
    _print(options, directory.read_settings(), measured, console)
    attempts_shown.say_unparseable(console, graded)
    _keep(options, directory, measured, graded, console)
  except run_directory.RunError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  return 0


def measure_policies(
  options: evaluation_options.Options,
  directory: run_directory.RunDirectory,
  console: rich_console.Console | None = None,
) -> tuple[dict[str, Any], dict[str, evaluate.Evaluation]]:
  """Measures `policies`, by name, and with --compare their `comparison`.

  Returns:
    The measures, and every policy's graded attempts.

  Raises:
    RunError: a run, a policy or data do not exist.
  """
  if options.compare:
    # A name that is wrong is an error before anything is sampled.
    other, name = evaluation_problems.find_policy(
      options.compare, directory, '--compare'
    )
    policies.choose_finished(other, name)
  run = evaluation_problems.reopen(options, directory, console)
  names = policies.finished_policies(directory)
  if options.policy != evaluation_options.ALL or not names:
    names = [policies.choose_finished(directory, options.policy)]
  key = registry.answer_key(run.settings.task, run.settings.data.grader)
  wanted = evaluation_options.wanted(options)
  with building.with_grader(run) as run:
    graded = {name: _evaluate(options, run, name) for name in names}
    try:
      measured = {
        'policies': {
          name: measures.measure(wanted, evaluation, key, run.grader)
          for name, evaluation in graded.items()
        }
      }
      if options.compare:
        measured['comparison'] = _compare(options, run, graded)
    except ValueError as error:
      raise run_directory.RunError(str(error)) from error
  return measured, graded


def _evaluate(
  options: evaluation_options.Options, run: context.Run, name: str
) -> evaluate.Evaluation:
  run = policies.run_of(run, name)
  return evaluate.evaluate(
    run.sampler,
    run.layout.inference_params(policies.stage_policy(run, name)),
    run.task.test,
    run.grader,
    outcome.evaluation_key(run.settings),
    samples_per_problem=options.samples,
    greedy=options.temperature == 0,
    temperature=options.temperature or 1.0,
    batch_size=options.batch_size,
    history=options.history,
    on_batch=attempts_shown.progress_of(name, run.console),
  )


def _compare(
  options: evaluation_options.Options,
  run: context.Run,
  graded: Mapping[str, evaluate.Evaluation],
) -> dict[str, Any]:
  """Paired tests of the policies against that of --compare."""
  other, name = evaluation_problems.find_policy(
    options.compare, run.directory, '--compare'
  )
  is_own = other.path.resolve() == run.directory.path.resolve()
  if is_own and name in graded:
    against = graded[name]
  else:
    other_run = evaluation_problems.reopen(options, other)
    with building.with_grader(other_run) as other_run:
      against = _evaluate(options, other_run, name)
  return {
    'against': options.compare,
    'tests': {
      each: measures.compare(against, evaluation)
      for each, evaluation in graded.items()
      if not (is_own and each == name)
    },
  }


def _print(
  options: evaluation_options.Options,
  settings: schema.Settings,
  measured: Mapping[str, Any],
  console: rich_console.Console,
) -> None:
  """Prints the paper's table and the other measures."""
  results = measured['policies']
  turns = max(map(tables.number_of_turns, results.values()))
  if turns > _MOST_TURNS_IN_TABLE:
    console.print(measure_tables.attempts(results))
  else:
    console.print(
      tables.console_table(
        {
          methods.policy_label(settings, name): summary
          for name, summary in results.items()
        },
        # Another task's attempts are graded by its own grader.
        correct_from=None if options.task else settings.correct_from_reward,
      )
    )
  for table in measure_tables.others(results):
    console.print(table)
  if 'comparison' in measured:
    console.print(measure_tables.comparison(**measured['comparison']))


def _keep(
  options: evaluation_options.Options,
  directory: run_directory.RunDirectory,
  measured: Mapping[str, Any],
  graded: Mapping[str, evaluate.Evaluation],
  console: rich_console.Console,
) -> None:
  """Writes measures and attempts to the files that the options name."""
  results = measured['policies']
  name = evaluation_options.name_of(options)
  if name:
    path = kept_evaluations.write(directory, name, options, measured)
    shown = directory.shown(path)
    console.print(f'kept as {shown}', markup=False, soft_wrap=True)
    for policy in graded:
      file = kept_evaluations.attempts_file(directory, name, policy)
      _write_attempts(file, policy, graded, console)
  elif not directory.results.exists():
    directory.write_results(results)
    for policy in graded:
      file = directory.stage(policy).evaluation
      _write_attempts(file, policy, graded, console)
  elif options.temperature == 0 and options.samples == 1:
    _check_same(results, directory.read_results(), console)
  directory.push()
  if options.output:
    json_files.write_json(pathlib.Path(options.output), results)
    console.print(f'written to {options.output}', markup=False)


def _write_attempts(path, policy, graded, console) -> None:
  outcome.write_transcripts(path, policy, graded[policy])
  console.print(f'attempts in {path}', markup=False, soft_wrap=True)


def _check_same(
  results: Mapping[str, Any],
  before: Mapping[str, Any],
  console: rich_console.Console,
) -> None:
  """Prints whether results.json has the same numbers."""
  for name, measured in results.items():
    own = before.get(name)
    if own is None or own['problems'] != measured['problems']:
      continue
    summary = {key: measured.get(key) for key in own}
    same = 'the same numbers as' if own == summary else 'OTHER numbers than'
    console.print(f'{name}: {same} in results.json', highlight=False)


if __name__ == '__main__':
  sys.exit(main())
