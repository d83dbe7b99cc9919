"""Rows and problems from a user's files: JSON lines, JSON, Parquet."""

import collections
from collections.abc import Mapping
import gzip
import json
import pathlib
from typing import Any

from score_jax import types


def read_rows(
  path: str | pathlib.Path, *, name: str | None = None
) -> list[dict[str, Any]]:
  """All rows of a .jsonl, .json or .parquet file (.gz as well), in order.

  Args:
    path: the file.
    name: file name whose suffix tells the format, where that of `path` (of a
      cache, say) does not.

  Raises:
    ValueError: a row is not a JSON object; the message names file and line.
  """
  path = pathlib.Path(path)
  name = name or path.name
  if name.endswith('.parquet'):
    # Parquet readers are heavy: only those who use them load them.
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()
  opened = gzip.open if name.endswith('.gz') else open
  with opened(path, 'rt', encoding='utf-8', newline='') as file:
    text = file.read()
  if '.jsonl' not in name:
    rows = _parse(text, path, 1)
    if not isinstance(rows, list):
      raise ValueError(f'{path} should hold a JSON list of objects')
    return rows
  # Not splitlines: it also breaks at U+2028 and the like inside strings.
  rows = []
  for number, line in enumerate(text.split('\n'), start=1):
    if line.strip():
      row = _parse(line, path, number)
      if not isinstance(row, dict):
        raise ValueError(f'{path}, line {number}: not a JSON object: {line!r}')
      rows.append(row)
  return rows


def _parse(text: str, path: pathlib.Path, line: int) -> Any:
  try:
    return json.loads(text)
  except json.JSONDecodeError as error:
    raise ValueError(
      f'{path}, line {line}, column {error.colno}: {error.msg}'
    ) from error


def load_problems(
  path: str | pathlib.Path,
  *,
  task: str,
  columns: Mapping[str, str] | None = None,
) -> list[types.Problem]:
  """A user's own problems from a JSONL, JSON or Parquet file.

  Args:
    path: the file.
    task: name of the task.
    columns: names of the columns that hold `question`, `reference` and `id`,
      where they differ from these; a row without an id gets its number.

  Raises:
    ValueError: a row lacks a column, or two rows have the same id.
  """
  names = {'question': 'question', 'reference': 'reference', 'id': 'id'}
  names |= columns or {}
  problems = []
  for number, row in enumerate(read_rows(path), start=1):
    for wanted in ('question', 'reference'):
      if names[wanted] not in row:
        raise ValueError(
          f'{path}, row {number} has no column {names[wanted]!r} for the '
          f'{wanted}; there are {", ".join(row)}. Name another in columns'
        )
    problems.append(
      types.Problem(
        id=str(row.get(names['id'], number)),
        task=task,
        question=str(row[names['question']]),
        reference=str(row[names['reference']]),
        columns=row,
      )
    )
  ids = collections.Counter(problem.id for problem in problems)
  twice = [name for name, count in ids.items() if count > 1]
  if twice:
    raise ValueError(f'{path}: several rows have the id {twice[0]!r}')
  return problems
