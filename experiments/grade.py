"""Grades a file of answers: `python -m experiments.grade --task=math ...`.

Reads JSON lines, writes JSON lines in the same order: `id`, `verdict`, `score`
(null where grading failed), `seconds`, `reason`.

  math, gsm8k   `gold`, and `pred` (the answer) or `response` (the attempt)
  code          `response` (the attempt) or `solution` (the program), and
                either `tests` (or `test`) with `entry_point`, or the `task_id`
                of an MBPP or HumanEval problem below --data-dir
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
  direct_grading,
  final_answer,
  math_grading,
)
from score_jax.grading.sandbox import probe
from score_jax.tasks import code_problems, records

Rows = Sequence[Mapping[str, Any]]
Done = Callable[[int], None]


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
  graders = {'math': grade_math, 'gsm8k': grade_gsm8k, 'code': grade_code}
  start = time.monotonic()
  bar = progress.Progress(
    *progress.Progress.get_default_columns(),
    progress.MofNCompleteColumn(),
    disable=not sys.stderr.isatty(),
    transient=True,
  )
  try:
    rows = records.read_rows(settings.input)
    with bar:
      graded = bar.add_task(f'grading {settings.task}', total=len(rows))
      verdicts = graders[settings.task](
        rows, settings, functools.partial(bar.advance, graded)
      )
  except (ImportError, OSError, ValueError, probe.NoSandboxError) as error:
    return _reject(str(error))
  write_verdicts(settings.output, rows, verdicts)
  print(_summary(verdicts, time.monotonic() - start))
  return 0


def grade_math(
  rows: Rows, settings: Settings, done: Done
) -> list[types.Verdict]:
  """Verdicts on math answers and attempts."""
  golds = [
    answer_text.stated(_column(row, n, 'gold')) for n, row in _each(rows)
  ]
  preds = [
    answer_text.stated(str(row['pred']))
    if 'pred' in row
    else final_answer.final_answer(_column(row, n, 'response', 'pred'))
    for n, row in _each(rows)
  ]
  grader = math_grading.MathGrader(
    workers=settings.workers,
    cpu_seconds=settings.cpu_seconds or 3.0,
    percent=settings.percent,
    decimal_digits=settings.decimal_digits,
  )
  with contextlib.closing(grader):
    return grader.grade_answers(golds, preds, done)


def grade_gsm8k(
  rows: Rows, settings: Settings, done: Done
) -> list[types.Verdict]:
  """Verdicts on answers whose final number alone counts."""
  del settings
  problems, attempts = [], []
  for number, row in _each(rows):
    gold = _column(row, number, 'gold').rpartition('####')[2].strip()
    text = (
      f'#### {answer_text.stated(str(row["pred"]))}'
      if 'pred' in row
      else _column(row, number, 'response', 'pred')
    )
    problems.append(types.Problem(str(number), 'gsm8k', '', gold))
    attempts.append(types.Attempt(text))
  grader = direct_grading.DirectGrader(direct_grading.grade_number)
  verdicts = grader.grade(problems, attempts)
  done(len(verdicts))
  return verdicts


def grade_code(
  rows: Rows, settings: Settings, done: Done
) -> list[types.Verdict]:
  """Verdicts on attempts and programs, by their tests in a sandbox."""
  problems = _code_problems(rows, settings.data_dir)
  texts = [
    _column(row, n, 'solution' if 'solution' in row else 'response', 'solution')
    for n, row in _each(rows)
  ]
  grader = code_grading.CodeGrader(
    sandbox=settings.sandbox,
    workers=settings.workers,
    cpu_seconds=settings.cpu_seconds or 10.0,
  )
  verdicts: list[types.Verdict | None] = [None] * len(rows)
  with contextlib.closing(grader):
    for extract in (True, False):
      chosen = [
        i for i, row in enumerate(rows) if ('solution' not in row) == extract
      ]
      graded = grader.grade(
        [problems[i] for i in chosen],
        [types.Attempt(texts[i]) for i in chosen],
        done,
        extract=extract,
      )
      for index, verdict in zip(chosen, graded):
        verdicts[index] = verdict
  return verdicts


def _code_problems(rows: Rows, data_dir: str | None) -> list[types.Problem]:
  named = [
    str(row['task_id'])
    for row in rows
    if 'task_id' in row and not _own_tests(row)
  ]
  known = {}
  if any(name.startswith('HumanEval') for name in named):
    known |= {p.id: p for p in code_problems.load_humaneval(data_dir)}
  if any(not name.startswith('HumanEval') for name in named):
    for split in code_problems.load_mbpp(data_dir).values():
      known |= {p.id: p for p in split}
  problems = []
  for number, row in _each(rows):
    name = str(row.get('task_id', number))
    problem = known.get(name) or known.get(f'MBPP/{name}')
    if _own_tests(row):
      problem = _problem_of_row(row, name)
    if problem is None:
      raise ValueError(
        f'row {number}: needs `tests` and `entry_point`, or the `task_id` of '
        f'an MBPP or HumanEval problem; task_id is {row.get("task_id")!r}'
      )
    problems.append(problem)
  return problems


def _own_tests(row: Mapping[str, Any]) -> bool:
  return 'tests' in row or 'test' in row


def _problem_of_row(row: Mapping[str, Any], name: str) -> types.Problem:
  tests = row['tests'] if 'tests' in row else row['test']
  entry_point = row.get('entry_point', '')
  if isinstance(tests, str) and 'def check(' in tests and entry_point:
    columns = code_problems.humaneval_columns(
      row.get('prompt', ''), entry_point, tests
    )
  else:
    tests = [tests] if isinstance(tests, str) else list(tests)
    columns = {'tests': tests, 'entry_point': entry_point}
  return types.Problem(name, 'code', '', row.get('reference', ''), columns)


def _each(rows: Rows):
  return enumerate(rows, start=1)


def _column(
  row: Mapping[str, Any], number: int, name: str, other: str = ''
) -> str:
  if row.get(name) is None:
    either = f' or {other!r}' if other else ''
    raise ValueError(
      f'row {number} has no {name!r}{either}; it has {", ".join(row)}'
    )
  return str(row[name])


def write_verdicts(
  path: str, rows: Rows, verdicts: Sequence[types.Verdict]
) -> None:
  """Writes one line for each row; the file appears whole or not at all."""
  target = pathlib.Path(path)
  target.parent.mkdir(parents=True, exist_ok=True)
  partial = target.with_name(f'{target.name}.partial')
  with partial.open('w', encoding='utf-8') as file:
    for number, (row, verdict) in enumerate(zip(rows, verdicts), start=1):
      line = {
        'id': row.get('id', row.get('task_id', number)),
        'verdict': verdict.label,
        'score': verdict.score,
        'seconds': round(verdict.seconds, 4),
        'reason': verdict.reason,
      }
      file.write(json.dumps(line) + '\n')
  os.replace(partial, target)


def _summary(verdicts: Sequence[types.Verdict], seconds: float) -> str:
  labels = collections.Counter(
    verdict.label if verdict.score is not None else 'ungraded'
    for verdict in verdicts
  )
  counts = ', '.join(f'{n} {label}' for label, n in sorted(labels.items()))
  rate = len(verdicts) / max(seconds, 1e-9)
  return f'{len(verdicts)} rows in {seconds:.1f} s ({rate:.1f}/s): {counts}'


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
