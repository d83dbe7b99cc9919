"""Which problems an evaluation asks, with which first attempts."""

from collections.abc import Mapping, Sequence
import dataclasses
import logging
import pathlib
from typing import Any

from experiments.config import schema
from experiments.evaluations import evaluation_options
from experiments.run import (
  base_model,
  building,
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
  options: evaluation_options.Options, run: run_directory.RunDirectory
) -> tuple[schema.Settings, building.Parts]:
  """A run's settings and parts whose test problems are those to ask.

  Raises:
    RunError: the run, the data or the given attempts are not there.
  """
  settings, parts = building.reopen(run)
  if options.task:
    settings, parts = _other_task(options, settings, run)
  elif options.data.file:
    problems = _own_problems(options, parts.task)
    task = dataclasses.replace(parts.task, train=problems, test=problems)
    parts = building.assemble(settings, task, run)
  count = options.eval_problems or settings.eval_problems
  problems = list(getattr(parts.task, options.split))[:count]
  if options.by:
    try:
      difficulty.measure(problems[0], options.by)
    except ValueError as error:
      raise run_directory.RunError(f'--by={options.by}: {error}') from error
  if options.given_attempts:
    given = _given_attempts(options, problems, run)
    problems = attach(problems, given, options.given_attempts)
  turns = options.attempts or settings.turns
  sampler = dataclasses.replace(
    parts.sampler, max_new_tokens=(settings.max_attempt_tokens,) * turns
  )
  task = dataclasses.replace(parts.task, test=problems)
  parts = dataclasses.replace(parts, sampler=sampler, task=task)
  return dataclasses.replace(settings, eval_problems=len(problems)), parts


def _other_task(options, settings, run):
  """The run with another task's problems, prompts and grader."""
  data = schema.Data(
    file=options.data.file,
    test_file=options.data.file,
    question=options.data.question,
    reference=options.data.reference,
    id=options.data.id,
    grader=options.data.grader,
  )
  settings = dataclasses.replace(
    settings,
    task=options.task,
    data=data,
    data_dir=options.data_dir or settings.data_dir,
    first_prompt=options.first_prompt,
    instruction=options.instruction,
    reward=(),
  )
  task = building.load_task(base_model.resolve(settings, run))
  if not (task.train and task.test):
    # Evaluation needs no training problems, and assembly asks for some.
    everything = (*task.train, *task.test)
    task = dataclasses.replace(task, train=everything, test=everything)
  return settings, building.assemble(settings, task, run)


def _own_problems(options, task: types.Task) -> list[types.Problem]:
  data = options.data
  columns = {'question': data.question, 'reference': data.reference}
  try:
    return records.load_problems(
      data.file, task=task.name, columns=columns | {'id': data.id}
    )
  except (OSError, ValueError) as error:
    raise run_directory.RunError(str(error)) from error


def split_policy(
  name: str, run: run_directory.RunDirectory, flag: str
) -> tuple[run_directory.RunDirectory, str]:
  """The run and the policy that a flag's `stage1` or `RUN/stage1` names.

  Raises:
    RunError: there is no such policy.
  """
  path = pathlib.Path(name)
  if len(path.parts) > 1:
    run = run_directory.RunDirectory(path.parent)
    if not run.config.exists():
      raise run_directory.RunError(
        f'{flag}={name}: {path.parent} is no run that could have a policy '
        f'{path.name}, and there is no such file'
      )
  return run, policies.choose_finished(run.read_settings(), run, path.name)


def _given_attempts(
  options: evaluation_options.Options,
  problems: Sequence[types.Problem],
  run: run_directory.RunDirectory,
) -> dict[str, str]:
  """First attempts by the ids of their problems: of a file, or of a policy."""
  path = pathlib.Path(options.given_attempts)
  if path.is_file():
    return _read_given(path)
  other, name = split_policy(options.given_attempts, run, '--given-attempts')
  plain = dataclasses.replace(options, given_attempts=None, attempts=1)
  settings, parts = reopen(plain, other)
  attempts = evaluate.sample_attempts(
    parts.sampler,
    parts.layout.view(policies.stage_policy(settings, parts, other, name)),
    problems,
    outcome.evaluation_key(settings),
  )
  return {p.id: row[0].text for p, row in zip(problems, attempts)}


def _read_given(path: pathlib.Path) -> dict[str, str]:
  found: dict[str, str] = {}
  several = 0
  for number, row in enumerate(json_files.read_lines(path), start=1):
    several += str(row.get('id')) in found
    found.setdefault(*_given_row(path, number, row))
  if several:
    _LOGGER.warning(
      '%s: %d rows are further attempts at a problem and are left out',
      path, several
    )  # fmt: skip
  return found


def _given_row(
  path: pathlib.Path, number: int, row: Mapping[str, Any]
) -> tuple[str, str]:
  """Id and first attempt of a row, ours (evaluation.jsonl) or a user's."""
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
  """The problems that have a given first attempt, with it.

  Raises:
    RunError: none has.
  """
  kept = [
    dataclasses.replace(
      problem, columns={**problem.columns, 'given_attempt': given[problem.id]}
    )
    for problem in problems
    # What is empty would be sampled.
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
