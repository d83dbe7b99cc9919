"""Grades a file of answers: `python -m experiments.grade --task=math ...`.

Reads JSON lines, whatever the file is called (or a JSON list, or .parquet), and
writes JSON lines in the same order: `id`, `verdict`, `score` (null where there
is none), `seconds`, `reason`.

  math, gsm8k   `gold`, and `pred` (the answer; null for none) or `response`
                (the attempt)
  code          `response` (the attempt) or `solution` (the program), and
                either `tests` (or `test`) with `entry_point`, or the `task_id`
                of an MBPP or HumanEval problem below --data-dir

Ids are unique: a row's `id`, else its `task_id`, else its number. Of rows that
share one the first keeps it, the next are ID#2, ID#3. A row that cannot be read
or lacks a column gets the verdict `malformed` and is named at the end, and the
others are graded. The exit code is then 1; it is 2 where nothing was graded and
nothing is written, else 0.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import sys
import time
from typing import Any, Literal

from rich import progress

from experiments.config import command_line
from score_jax import types
from score_jax.grading import (
  answer_text,
  code_grading,
  code_testing,
  direct_grading,
  final_answer,
  math_grading,
)
from score_jax.grading.sandbox import probe
from score_jax.tasks import code_problems, records

Row = Mapping[str, Any]
Done = Callable[[int], None]
_MOST_NAMED = 20


@dataclasses.dataclass(frozen=True)
class Settings:
  """Grades a file of answers or programs."""

  task: Literal['math', 'gsm8k', 'code']
  """What the rows of the file are answers to."""
  input: str
  """JSON lines to grade."""
  output: str
  """JSON lines to write."""
  data_dir: str | None = None
  """Directory of original files, for rows with a task_id; else download."""
  workers: int | None = None
  """Grader processes; by default one less than there are cores."""
  cpu_seconds: float | None = None
  """CPU seconds per answer (by default 3) or program (by default 10)."""
  percent: Literal['either', 'value'] = 'either'
  """Whether 10% may stand for 10 as well as for 0.1."""
  decimal_digits: int = 10
  """Digits from which a rounded decimal stands for an exact value."""
  sandbox: Literal['auto', 'bwrap', 'landlock', 'none'] = 'auto'
  """Sandbox of programs."""
  i_understand_model_code_runs_unsandboxed: bool = False
  """Needed for --sandbox=none."""


def main(settings: Settings) -> int:
  """Grades, writes, and prints a summary; returns the exit code."""
  if settings.sandbox == 'none' and not (
    settings.i_understand_model_code_runs_unsandboxed
  ):
    return _reject(
      '--sandbox=none runs programs with your rights; it needs '
      '--i-understand-model-code-runs-unsandboxed as well'
    )
  if settings.workers is not None and settings.workers < 1:
    return _reject(f'--workers={settings.workers}: must be at least 1')
  start = time.monotonic()
  bar = progress.Progress(
    *progress.Progress.get_default_columns(),
    progress.MofNCompleteColumn(),
    disable=not sys.stderr.isatty(),
    transient=True,
  )
  try:
    rows = records.rows_or_errors(settings.input)
    answers, malformed = _checked(rows, _reader(rows, settings))
    if malformed and not answers:
      return _reject(_named(malformed, len(rows)))
    with bar:
      graded = bar.add_task(f'grading {settings.task}', total=len(answers))
      verdicts = _GRADERS[settings.task](
        list(answers.values()), settings, functools.partial(bar.advance, graded)
      )
  except (ImportError, OSError, ValueError, probe.NoSandboxError) as error:
    return _reject(str(error))
  write_verdicts(
    settings.output, unique_ids(rows), dict(zip(answers, verdicts)), malformed
  )
  print(_summary(len(rows), verdicts, time.monotonic() - start))
  if malformed:
    print(f'error: {_named(malformed, len(rows))}', file=sys.stderr)
  return 1 if malformed else 0


def _checked(
  rows: Sequence[Row | ValueError], read: Callable[[Row], Any]
) -> tuple[dict[int, Any], dict[int, str]]:
  """What `read` makes of each row, and what is wrong with others, by index."""
  answers, malformed = {}, {}
  for index, row in enumerate(rows):
    try:
      if isinstance(row, ValueError):
        raise row
      answers[index] = read(row)
    except ValueError as error:
      malformed[index] = str(error)
  return answers, malformed


def _named(malformed: Mapping[int, str], total: int) -> str:
  """The malformed rows on one line each, the first of them where many are."""
  lines = [f'row {i + 1}: {reason}' for i, reason in malformed.items()]
  if len(lines) > _MOST_NAMED:
    lines = [*lines[:_MOST_NAMED], f'and {len(lines) - _MOST_NAMED} more']
  head = f'{len(malformed)} of {total} rows are malformed and not graded'
  return '\n  '.join([head, *lines])


def unique_ids(rows: Sequence[Row | ValueError]) -> list[Any]:
  """The id of each row in the output, as the module's docstring says."""
  stated = []
  for row in rows:
    row = {} if isinstance(row, ValueError) else row
    name = row.get('id') if row.get('id') is not None else row.get('task_id')
    plain = name is None or isinstance(name, str | int | float)
    stated.append(name if plain else str(name))
  # A number of a row never takes an id that another row states.
  reserved = {str(name) for name in stated if name is not None}
  used, copies, ids = set(), collections.Counter(), []
  for number, name in enumerate(stated, start=1):
    base = number if name is None else name
    unique = base
    while str(unique) in used or (
      unique is not name and str(unique) in reserved
    ):
      copies[str(base)] += 1
      unique = f'{base}#{copies[str(base)] + 1}'
    used.add(str(unique))
    ids.append(unique)
  return ids


def _reader(
  rows: Sequence[Row | ValueError], settings: Settings
) -> Callable[[Row], Any]:
  """The function that takes from a row what its task's grader needs."""
  if settings.task == 'math':
    return read_math
  if settings.task == 'gsm8k':
    return read_gsm8k
  return functools.partial(
    read_code, known=_known_problems(rows, settings.data_dir)
  )


def read_math(row: Row) -> tuple[str, str | None]:
  """(reference, answer) of a row of --task=math."""
  gold = answer_text.stated(_column(row, 'gold'))
  if 'pred' in row:
    pred = row['pred']
    return gold, None if pred is None else answer_text.stated(str(pred))
  return gold, final_answer.final_answer(_column(row, 'response', 'pred'))


def grade_math(
  answers: Sequence[tuple[str, str | None]], settings: Settings, done: Done
) -> list[types.Verdict]:
  """Verdicts on math answers and attempts."""
  grader = math_grading.MathGrader(
    workers=settings.workers,
    cpu_seconds=settings.cpu_seconds or 3.0,
    percent=settings.percent,
    decimal_digits=settings.decimal_digits,
  )
  golds, preds = [gold for gold, _ in answers], [pred for _, pred in answers]
  with contextlib.closing(grader):
    return grader.grade_answers(golds, preds, done)


def read_gsm8k(row: Row) -> tuple[str, str]:
  """(reference, attempt) of a row of --task=gsm8k."""
  gold = _column(row, 'gold').rpartition('####')[2].strip()
  if 'pred' in row:
    pred = row['pred']
    text = '' if pred is None else f'#### {answer_text.stated(str(pred))}'
    return gold, text
  return gold, _column(row, 'response', 'pred')


def grade_gsm8k(
  answers: Sequence[tuple[str, str]], settings: Settings, done: Done
) -> list[types.Verdict]:
  """Verdicts on answers whose final number alone counts."""
  del settings
  grader = direct_grading.DirectGrader(direct_grading.grade_number)
  verdicts = grader.grade(
    [types.Problem('', 'gsm8k', '', gold) for gold, _ in answers],
    [types.Attempt(text) for _, text in answers],
  )
  done(len(verdicts))
  return verdicts


def read_code(
  row: Row, *, known: Mapping[str, types.Problem]
) -> tuple[types.Problem, str, bool]:
  """(problem, text, whether it is an attempt) of a row of --task=code."""
  is_attempt = 'solution' not in row
  name = 'response' if is_attempt else 'solution'
  text = _column(row, name, 'solution')
  if _own_tests(row):
    return _problem_of_row(row), text, is_attempt
  name = str(row.get('task_id'))
  problem = known.get(name) or known.get(f'MBPP/{name}')
  if problem is None:
    raise ValueError(
      'needs `tests` and `entry_point`, or the `task_id` of an MBPP or '
      f'HumanEval problem; task_id is {row.get("task_id")!r}'
    )
  return problem, text, is_attempt


def grade_code(
  answers: Sequence[tuple[types.Problem, str, bool]],
  settings: Settings,
  done: Done,
) -> list[types.Verdict]:
  """Verdicts on attempts and programs, by their tests in a sandbox."""
  grader = code_grading.CodeGrader(
    sandbox=settings.sandbox,
    workers=settings.workers,
    cpu_seconds=settings.cpu_seconds or 10.0,
  )
  verdicts: list[types.Verdict | None] = [None] * len(answers)
  with contextlib.closing(grader):
    for extract in (True, False):
      chosen = [i for i, answer in enumerate(answers) if answer[2] == extract]
      graded = grader.grade(
        [answers[i][0] for i in chosen],
        [types.Attempt(answers[i][1]) for i in chosen],
        done,
        extract=extract,
      )
      for index, verdict in zip(chosen, graded):
        verdicts[index] = verdict
  return verdicts


_GRADERS = {'math': grade_math, 'gsm8k': grade_gsm8k, 'code': grade_code}


def _known_problems(
  rows: Sequence[Row | ValueError], data_dir: str | None
) -> dict[str, types.Problem]:
  """Problems of the data sets that rows name, by id."""
  named = [
    str(row['task_id'])
    for row in rows
    if isinstance(row, Mapping) and 'task_id' in row and not _own_tests(row)
  ]
  known = {}
  if any(name.startswith('HumanEval') for name in named):
    known |= {p.id: p for p in code_problems.load_humaneval(data_dir)}
  if any(not name.startswith('HumanEval') for name in named):
    for split in code_problems.load_mbpp(data_dir).values():
      known |= {p.id: p for p in split}
  return known


def _own_tests(row: Row) -> bool:
  return 'tests' in row or 'test' in row


def _problem_of_row(row: Row) -> types.Problem:
  tests = row['tests'] if 'tests' in row else row['test']
  entry_point = row.get('entry_point') or ''
  reference = row.get('reference') or ''
  name = str(row.get('task_id', (tests, reference)))
  if isinstance(tests, str) and 'def check(' in tests and entry_point:
    columns = code_problems.humaneval_columns(
      row.get('prompt') or '', entry_point, tests
    )
    return types.Problem(name, 'code', '', reference, columns)
  tests = [tests] if isinstance(tests, str) else tests
  if not isinstance(tests, list) or not all(isinstance(t, str) for t in tests):
    raise ValueError(f'`tests` is no list of texts: {tests!r}'[:200])
  try:
    entry_point = entry_point or code_testing.entry_point(tests)
  except SyntaxError as error:
    raise ValueError(f'`tests` is no Python: {error}') from error
  columns = {'tests': tests, 'entry_point': entry_point}
  return types.Problem(name, 'code', '', reference, columns)


def _column(row: Row, name: str, other: str = '') -> str:
  if row.get(name) is None:
    either = f' or {other!r}' if other else ''
    given = ', '.join(key for key, value in row.items() if value is not None)
    raise ValueError(f'has no {name!r}{either}; it has {given or "nothing"}')
  return str(row[name])


def write_verdicts(
  path: str,
  ids: Sequence[Any],
  verdicts: Mapping[int, types.Verdict],
  malformed: Mapping[int, str],
) -> None:
  """Writes one line for each row; the file appears whole or not at all.

  Args:
    path: of the file.
    ids: one for each row.
    verdicts: by the row's index.
    malformed: what is wrong with the other rows, by index.
  """
  target = pathlib.Path(path)
  target.parent.mkdir(parents=True, exist_ok=True)
  partial = target.with_name(f'{target.name}.partial')
  with partial.open('w', encoding='utf-8') as file:
    for index, name in enumerate(ids):
      line = {'id': name, 'verdict': 'malformed', 'score': None, 'seconds': 0.0}
      if index in verdicts:
        verdict = verdicts[index]
        line['verdict'], line['score'] = verdict.label, verdict.score
        line['seconds'] = round(verdict.seconds, 4)
        line['reason'] = verdict.reason
      else:
        line['reason'] = malformed[index]
      file.write(json.dumps(line) + '\n')
  os.replace(partial, target)


def _summary(
  total: int, verdicts: Sequence[types.Verdict], seconds: float
) -> str:
  labels = collections.Counter(
    verdict.label if verdict.score is not None else 'ungraded'
    for verdict in verdicts
  )
  if total > len(verdicts):
    labels['malformed'] = total - len(verdicts)
  counts = ', '.join(f'{n} {label}' for label, n in sorted(labels.items()))
  rate = total / max(seconds, 1e-9)
  return f'{total} rows in {seconds:.1f} s ({rate:.1f}/s): {counts}'


def _reject(message: str) -> int:
  print(f'error: {message}', file=sys.stderr)
  return 2


if __name__ == '__main__':
  sys.exit(
    main(
      command_line.parse(
        Settings, program='experiments.grade', document=__doc__
      )
    )
  )
