"""Files that survive a crash: JSON replaced at once, JSON lines read back.

Of several processes the first one writes them; the others' calls do nothing.
"""

from collections.abc import Iterator
import contextlib
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
  write_text(path, dumps(value))


def dumps(value: Any) -> str:
  """A value as the text of a JSON file."""
  return json.dumps(value, indent=2) + '\n'


def read_json(path: pathlib.Path) -> Any:
  """The value of a JSON file; None where it cannot be read."""
  try:
    return json.loads(path.read_bytes())
  except (OSError, ValueError):
    return None


def read_lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Records of a JSON lines file, without lines that a crash cut off."""
  if not path.exists():
    return
  with path.open(encoding='utf-8', errors='replace') as file:
    for number, line in enumerate(file, start=1):
      record = None
      with contextlib.suppress(json.JSONDecodeError):
        record = json.loads(line)
      if isinstance(record, dict):
        yield record
      else:
        _LOGGER.warning('%s, line %d is torn; it is left out', path, number)
