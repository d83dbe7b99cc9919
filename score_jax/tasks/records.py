"""Rows and problems from a user's files: JSON lines, JSON, Parquet."""

import codecs
import collections
from collections.abc import Mapping
import contextlib
import gzip
import json
import pathlib
from typing import Any

from etils import epath

from score_jax import types


def read_rows(
  path: str | pathlib.Path, *, name: str | None = None
) -> list[dict[str, Any]]:
  """All rows of a file, in order; formats and arguments of `rows_or_errors`.

  Raises:
    ValueError: a row is not a JSON object; the message names file and line.
  """
  rows = []
  for row in rows_or_errors(path, name=name):
    if isinstance(row, ValueError):
      raise row
    rows.append(row)
  return rows


def rows_or_errors(
  path: str | pathlib.Path, *, name: str | None = None
) -> list[dict[str, Any] | ValueError]:
  """Rows of JSON lines, a JSON list or Parquet, and errors that name the rest.

  Parquet is known by its suffix; a JSON list and gzip by what the file holds.

  Args:
    path: the file, or its URL.
    name: file name whose suffix counts, where that of `path` (of a cache, say)
      does not.

  Returns:
    For each row its columns or, where it is not a JSON object, the error.
  """
  path = epath.Path(path)
  if (name or path.name).endswith('.parquet'):
    # Parquet readers are heavy: only those who use them load them.
    import pyarrow.parquet

    with path.open('rb') as file:
      return pyarrow.parquet.read_table(file).to_pylist()
  data = path.read_bytes()
  if data.startswith(b'\x1f\x8b'):
    data = gzip.decompress(data)
  data = data.removeprefix(codecs.BOM_UTF8)
  if data.lstrip().startswith(b'['):
    with contextlib.suppress(ValueError, RecursionError):
      return [
        _object(value, f'{path}, item {number}')
        for number, value in enumerate(json.loads(data), start=1)
      ]
  # Not splitlines: it also breaks at U+2028 and the like inside strings.
  return [
    _object_of_line(line, f'{path}, line {number}')
    for number, line in enumerate(data.split(b'\n'), start=1)
    if line.strip()
  ]


def _object_of_line(line: bytes, place: str) -> dict[str, Any] | ValueError:
  try:
    return _object(json.loads(line.decode()), place)
  except json.JSONDecodeError as error:
    return ValueError(f'{place}, column {error.colno}: {error.msg}')
  except (ValueError, RecursionError) as error:
    return ValueError(f'{place}: {error}')


def _object(value: Any, place: str) -> dict[str, Any] | ValueError:
  if isinstance(value, dict):
    return value
  return ValueError(f'{place}: not a JSON object: {str(value)[:80]!r}')


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
