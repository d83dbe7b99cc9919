"""Digests of what was written to a directory, by which damage is found.

written.json, beside the files, has the SHA-256 of files that are replaced as a
whole, and the step and the CRC-32 of every line of logs. Digests come first
where a file is replaced or cut, and last where lines are added: whenever a
process is killed, everything that has a digest agrees with it. What has none is
read as it is: lines that were being added, or files of a version without
digests.

For the first of several processes; the others' writes do nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import hashlib
import json
import logging
import pathlib
import shutil
from typing import Any
import zlib

from score_jax import distributed
from score_jax.io import json_files

_LOGGER = logging.getLogger(__name__)
NAME = 'written.json'
# Step and CRC-32 of a line of a log.
Line = tuple[int, int]


class WrittenFiles:
  """The files of a directory that were written with a digest."""

  def __init__(self, directory: pathlib.Path):
    """Opens a directory, which need not exist; changes nothing."""
    self._directory = directory
    self._path = directory / NAME

  def replace(self, path: pathlib.Path, text: str) -> None:
    """Replaces a file; a kill leaves its old content or the new one, whole."""
    self._vouch(path, text.encode())
    json_files.write_text(path, text)

  def replace_json(self, path: pathlib.Path, value: Any) -> None:
    """Replaces a file by a value as JSON; keys keep their order."""
    self.replace(path, json_files.dumps(value))

  def vouch(self, path: pathlib.Path, source: pathlib.Path) -> None:
    """Notes that a file will have the bytes that `source` has."""
    self._vouch(path, source.read_bytes())

  def _vouch(self, path: pathlib.Path, content: bytes) -> None:
    noted, name = self._read(), self._name(path)
    accepted = [hashlib.sha256(content).hexdigest()]
    if path.is_file() and self.is_intact(path):
      # Until it is replaced, the file has the bytes that it has.
      accepted.append(hashlib.sha256(path.read_bytes()).hexdigest())
    noted['files'][name] = sorted(set(accepted))
    self._write(noted)

  def remove(self, path: pathlib.Path) -> None:
    """Removes a file, if it exists, and its digest: it is to be made anew."""
    noted = self._read()
    if noted['files'].pop(self._name(path), None):
      self._write(noted)
    path.unlink(missing_ok=True)

  def has(self, path: pathlib.Path) -> bool:
    """Whether a file was written with a digest, existing or not."""
    return self._name(path) in self._read()['files']

  def accepts(self, path: pathlib.Path, content: bytes) -> bool:
    """Whether these bytes are what was written to a file, or it has no digest.

    Args:
      path: of the file.
      content: its bytes, or bytes to take their place.
    """
    known = self._read()['files'].get(self._name(path))
    return known is None or hashlib.sha256(content).hexdigest() in known

  def is_intact(self, path: pathlib.Path) -> bool:
    """Whether a file has the bytes that were written to it, or has no digest.

    A file that has a digest and does not exist is not intact.
    """
    if not path.is_file():
      return not self.has(path)
    return self.accepts(path, path.read_bytes())

  def records(self, path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Records of a log, without lines that were damaged or have no digest."""
    noted = self._read()['logs'].get(self._name(path))
    if noted is None:
      yield from json_files.read_lines(path)
      return
    kept, _ = _compare(_split(path), noted)
    yield from map(json.loads, kept)

  def note_lines(self, path: pathlib.Path, lines: Iterable[Line]) -> None:
    """Notes the lines that a log has on the disk."""
    noted = self._read()
    noted['logs'][self._name(path)] = list(lines)
    self._write(noted)

  def continue_log(self, path: pathlib.Path, step: int) -> list[Line]:
    """Cuts a log after a step, so that no step comes twice; the lines left.

    Damaged lines are left out, with a warning and a note of what is lost; the
    file as it was is then kept as NAME.damaged.
    """
    noted, name = self._read(), self._name(path)
    before = path.read_bytes() if path.exists() else b''
    lost = ''
    if name in noted['logs']:
      expected = [line for line in noted['logs'][name] if line[0] <= step]
      kept, missing = _compare(before.splitlines(), expected)
      lost = _describe(missing, expected)
      steps = {crc: step for step, crc in expected}
      lines = [(steps[crc], crc) for crc in map(zlib.crc32, kept)]
    else:
      records = [r for r in json_files.read_lines(path) if r['step'] <= step]
      kept = [json.dumps(record).encode() for record in records]
      lines = [(r['step'], zlib.crc32(k)) for r, k in zip(records, kept)]
    after = b''.join(line + b'\n' for line in kept)
    if lost:
      _LOGGER.warning('%s is damaged: %s; it goes on without', path, lost)
      noted['lost'].setdefault(name, []).append(lost)
      if before:
        shutil.copyfile(path, path.with_name(f'{path.name}.damaged'))
    if lost or after != before:
      noted['logs'][name] = lines
      self._write(noted)
    if after != before:
      json_files.write_text(path, after.decode())
    return lines

  def damage(self) -> dict[str, str]:
    """What is wrong with each file that is not as it was written, by name."""
    found = {}
    if self._path.exists() and not self._load():
      found[NAME] = 'is damaged: files beside it cannot be verified'
    noted = self._read()
    for name in noted['files']:
      path = self._directory / name
      if not path.is_file():
        found[name] = 'is missing'
      elif not self.is_intact(path):
        found[name] = 'is damaged'
    for name, lines in noted['logs'].items():
      _, missing = _compare(_split(self._directory / name), lines)
      lost = _describe(missing, lines)
      if lost:
        found[name] = f'is damaged: {lost}'
    return found

  def _name(self, path: pathlib.Path) -> str:
    return path.relative_to(self._directory).as_posix()

  def _read(self) -> dict[str, dict[str, Any]]:
    return self._load() or {'files': {}, 'logs': {}, 'lost': {}}

  def _load(self) -> dict[str, dict[str, Any]] | None:
    """The contents of written.json; None where it is missing or damaged."""
    body = json_files.read_json(self._path)
    if isinstance(body, dict) and body.pop('sha256', '') == _digest(body):
      return body
    return None

  def _write(self, body: Mapping[str, Any]) -> None:
    text = json.dumps({**body, 'sha256': _digest(body)})
    if distributed.is_first():
      self._directory.mkdir(parents=True, exist_ok=True)
    json_files.write_text(self._path, text + '\n')


class Log:
  """A log of JSON lines that is continued after a step.

  Each record has a `step`, and is on the operating system's side when `write`
  returns; where the disk refuses it, it waits for the next call.
  """

  def __init__(self, path: pathlib.Path, step: int):
    """Opens the log, which is made if it does not exist.

    Args:
      path: of the file.
      step: the newest step to keep; records of later ones are dropped.
    """
    self._path = path
    self._written = WrittenFiles(path.parent)
    self._file = None
    self._waiting = b''
    self._is_refused = False
    if distributed.is_first():
      path.parent.mkdir(parents=True, exist_ok=True)
      self._lines = self._written.continue_log(path, step)
      # Without a buffer: what a full disk took of a line is known.
      self._file = path.open('ab', buffering=0)

  def write(self, record: Mapping[str, Any]) -> None:
    """Appends one record; where the disk refuses, says so once and goes on."""
    if self._file:
      line = json.dumps(record, allow_nan=False).encode()
      self._waiting += line + b'\n'
      self._lines.append((record['step'], zlib.crc32(line)))
      try:
        self._append()
      except OSError as error:
        if not self._is_refused:
          _LOGGER.warning(
            '%s cannot be written (%s); its lines wait for the disk',
            self._path,
            error,
          )
        self._is_refused = True

  def note(self) -> None:
    """Notes the digests of all lines so far. Not all of them at each line.

    Raises:
      OSError: the disk refuses; nothing may be saved that counts on the lines.
    """
    if self._file:
      self._append()
      self._written.note_lines(self._path, self._lines)

  def close(self) -> None:
    """Closes the file. May be called twice."""
    if self._file and not self._file.closed:
      # Without digests, the lines are none that anything saved counts on.
      with contextlib.suppress(OSError):
        self._append()
      self._file.close()

  def _append(self) -> None:
    while self._waiting:
      self._waiting = self._waiting[self._file.write(self._waiting) :]
    self._is_refused = False


def _digest(body: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _split(path: pathlib.Path) -> list[bytes]:
  return path.read_bytes().splitlines() if path.exists() else []


def _compare(
  found: Iterable[bytes], expected: Sequence[Line]
) -> tuple[list[bytes], list[Line]]:
  """Lines that are as expected, and those expected that were not found."""
  left = Counter(crc for _, crc in expected)
  kept = []
  for line in found:
    crc = zlib.crc32(line)
    if left[crc]:
      left[crc] -= 1
      kept.append(line)
  missing = []
  for step, crc in expected:
    if left[crc]:
      left[crc] -= 1
      missing.append((step, crc))
  return kept, missing


def _describe(missing: Sequence[Line], expected: Sequence[Line]) -> str:
  """What is missing, in words: '2 of 40 lines are lost, steps 3 to 4'."""
  if not missing:
    return ''
  text = f'{len(missing)} of {len(expected)} lines are lost'
  steps = sorted({step for step, _ in missing})
  if not any(steps):
    return text
  order = {step: i for i, step in enumerate(sorted({s for s, _ in expected}))}
  spans: list[list[int]] = []
  for step in steps:
    if spans and order[step] == order[spans[-1][1]] + 1:
      spans[-1][1] = step
    else:
      spans.append([step, step])
  words = [f'{a} to {b}' if a < b else f'{a}' for a, b in spans]
  return f'{text}, step{"s" * (len(steps) > 1)} {", ".join(words)}'
