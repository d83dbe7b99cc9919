"""Files that survive a crash: JSON replaced at once, JSON lines.

Of several processes the first one writes them; the others' calls do nothing.
"""

from collections.abc import Iterator, Mapping
import json
import logging
import os
import pathlib
from typing import Any

from score_jax import distributed

_LOGGER = logging.getLogger(__name__)


def write_text(path: pathlib.Path, text: str) -> None:
  """Replaces a file; a crash leaves its old content or the new one, whole."""
  if not distributed.is_first():
    return
  temporary = path.with_name(f'.{path.name}.tmp')
  with temporary.open('w', encoding='utf-8') as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  temporary.replace(path)


def write_json(path: pathlib.Path, value: Any) -> None:
  """Replaces a file by a value as JSON; keys keep their order."""
  write_text(path, json.dumps(value, indent=2) + '\n')


def read_lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Records of a JSON lines file, without lines that a crash cut off."""
  if not path.exists():
    return
  with path.open(encoding='utf-8', errors='replace') as file:
    for number, line in enumerate(file, start=1):
      try:
        yield json.loads(line)
      except json.JSONDecodeError:
        _LOGGER.warning('%s, line %d is torn; it is left out', path, number)


def truncate_lines(path: pathlib.Path, step: int) -> None:
  """Drops records of steps after `step`, so that no step comes twice."""
  if not (distributed.is_first() and path.exists()):
    return
  kept = [r for r in read_lines(path) if r['step'] <= step]
  write_text(path, ''.join(json.dumps(r) + '\n' for r in kept))


class LineWriter:
  """Appends records to a JSON lines file and flushes each."""

  def __init__(self, path: pathlib.Path):
    """Opens the file, which is made if it does not exist."""
    self._file = None
    if distributed.is_first():
      path.parent.mkdir(parents=True, exist_ok=True)
      self._file = path.open('a', encoding='utf-8')

  def write(self, record: Mapping[str, Any]) -> None:
    """Appends one record."""
    if self._file:
      self._file.write(json.dumps(record, allow_nan=False) + '\n')
      self._file.flush()

  def close(self) -> None:
    """Closes the file. May be called twice."""
    if self._file:
      self._file.close()
