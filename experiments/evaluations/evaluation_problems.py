"""Selects the problems of an evaluation, and their off-policy attempts."""

from collections.abc import Mapping, Sequence
import dataclasses
import logging
import pathlib
from typing import Any

from etils import epath
from rich import console as rich_console

from experiments.config import groups
from experiments.evaluations import evaluation_options
from experiments.run import (
  base_model,
  building,
  context,
  outcome,
  policies,
  run_directory,
)
from score_jax import types
from score_jax.evaluation import evaluate
from score_jax.io import json_files
from score_jax.tasks import difficulty, records

_LOGGER = logging.getLogger(__name__)


def reopen(
  options: evaluation_options.Options,
  directory: run_directory.RunDirectory,
  console: rich_console.Console | None = None,
) -> context.Run:
  """Opens a run with the test problems and turns that the options ask for.

  Raises:
    RunError: the run, the data or the off-policy attempts do not exist.
  """
  run = building.reopen(directory, console)
  if options.task:
    run = _with_other_task(options, run)
  elif options.data.file:
    problems = _own_problems(options, run.task)
    task = dataclasses.replace(run.task, train=problems, test=problems)
    run = building.build(run.settings, task, directory, console)
  count = options.eval_problems or run.settings.eval_problems
  problems = {
    'train': run.train_problems,
    'validation': run.task.validation,
    'test': run.task.test,
  }[options.split]
  if not problems:
    raise run_directory.RunError(
      f'--split={options.split}: the run has no such problems'
    )
  problems = list(problems[:count])
  if options.by:
    try:
      difficulty.measure(problems[0], options.by)
    except ValueError as error:
      raise run_directory.RunError(f'--by={options.by}: {error}') from error
  if options.given_attempts:
    given = _given_attempts(options, problems, directory)
    problems = attach(problems, given, options.given_attempts)
  return _with_problems(run, problems, options.attempts)


def _with_problems(
  run: context.Run, problems: list[types.Problem], turns: int | None
) -> context.Run:
  """The run with these test problems and this number of turns."""
  settings = dataclasses.replace(run.settings, eval_problems=len(problems))
  limit = (settings.max_attempt_tokens,)
  return dataclasses.replace(
    run,
    settings=settings,
    task=dataclasses.replace(run.task, test=problems),
    sampler=dataclasses.replace(
      run.sampler, max_new_tokens=limit * (turns or settings.turns)
    ),
  )


def _with_other_task(
  options: evaluation_options.Options, run: context.Run
) -> context.Run:
  """The run with problems, prompts and grader of --task."""
  asked = options.data
  settings = dataclasses.replace(
    run.settings,
    task=options.task,
    data=groups.Data(
      file=asked.file,
      test_file=asked.file,
      question=asked.question,
      reference=asked.reference,
      id=asked.id,
      grader=asked.grader,
    ),
    data_dir=options.data_dir or run.settings.data_dir,
    first_prompt=options.first_prompt,
    instruction=options.instruction,
    reward=(),
    correct_from_reward=None,
  )
  task = building.load_task(base_model.resolve(settings, run.directory))
  if not (task.train and task.test):
    # Evaluation needs no training problems, and building asks for some.
    everything = (*task.train, *task.test)
    task = dataclasses.replace(task, train=everything, test=everything)
  return building.build(settings, task, run.directory, run.console)


def _own_problems(
  options: evaluation_options.Options, task: types.Task
) -> list[types.Problem]:
  data = options.data
  columns = {'question': data.question, 'reference': data.reference}
  try:
    return records.load_problems(
      data.file, task=task.name, columns=columns | {'id': data.id}
    )
  except (OSError, ValueError) as error:
    raise run_directory.RunError(f'{error} (see --data.*)') from error


def find_policy(
  name: str, directory: run_directory.RunDirectory, flag: str
) -> tuple[run_directory.RunDirectory, str]:
  """Resolves a flag's value, `stage1` or `RUN/stage1`, to run and policy.

  Raises:
    RunError: there is no such run.
  """
  path = epath.Path(name)
  if len(path.parts) > 1:
    directory = run_directory.RunDirectory.existing(path.parent)
    if not directory.config.exists():
      raise run_directory.RunError(
        f'{flag}={name}: {path.parent} is no run that could have a policy '
        f'{path.name}, and there is no such file'
      )
  return directory, path.name


def _given_attempts(
  options: evaluation_options.Options,
  problems: Sequence[types.Problem],
  directory: run_directory.RunDirectory,
) -> dict[str, str]:
  """Off-policy first attempts by problem id, from a file or a policy."""
  path = pathlib.Path(options.given_attempts)
  if path.is_file():
    return _read_given(path)
  other, name = find_policy(
    options.given_attempts, directory, '--given-attempts'
  )
  policies.choose_finished(other, name)
  run = reopen(
    dataclasses.replace(options, given_attempts=None, attempts=1), other
  )
  policy = policies.stage_policy(run, name)
  attempts = evaluate.sample_attempts(
    run.sampler,
    run.layout.inference_params(policy),
    problems,
    outcome.evaluation_key(run.settings),
  )
  return {p.id: row[0].text for p, row in zip(problems, attempts)}


def _read_given(path: pathlib.Path) -> dict[str, str]:
  found: dict[str, str] = {}
  further = 0
  for number, row in enumerate(json_files.read_lines(path), start=1):
    further += str(row.get('id')) in found
    found.setdefault(*_given_row(path, number, row))
  if further:
    _LOGGER.warning(
      '%s: %d rows are further attempts at a problem and are left out',
      path, further
    )  # fmt: skip
  return found


def _given_row(
  path: pathlib.Path, number: int, row: Mapping[str, Any]
) -> tuple[str, str]:
  """Id and first attempt of a row of evaluation.jsonl or of a user's file."""
  text = row.get('given_attempt') or next(iter(row.get('attempts', ())), None)
  if 'id' not in row or not isinstance(text, str):
    raise run_directory.RunError(
      f'{path}, row {number}: needs `id` of a problem and `given_attempt`; it '
      f'has: {", ".join(row)}'
    )
  return str(row['id']), text


def attach(
  problems: Sequence[types.Problem], given: Mapping[str, str], source: str
) -> list[types.Problem]:
  """Adds off-policy first attempts to their problems; drops the others.

  Raises:
    RunError: no problem has one.
  """
  kept = [
    dataclasses.replace(
      problem, columns={**problem.columns, 'given_attempt': given[problem.id]}
    )
    for problem in problems
    # The sampler takes an empty one for a missing one, and would sample it.
    if given.get(problem.id)
  ]
  if not kept:
    raise run_directory.RunError(
      f'--given-attempts={source} has no attempt at any of the '
      f'{len(problems)} problems; their ids are like {problems[0].id!r}'
    )
  if len(kept) < len(problems):
    _LOGGER.warning(
      '%d of %d problems have no given attempt and are left out',
      len(problems) - len(kept), len(problems)
    )  # fmt: skip
  return kept
