"""Messages between processes: JSON behind its length in four bytes."""

from collections.abc import Callable
import json
import struct
from typing import Any

LONGEST = 64 * 2**20


def pack(message: Any) -> bytes:
  """The bytes of one message."""
  body = json.dumps(message).encode()
  return struct.pack('>I', len(body)) + body


def read(read_bytes: Callable[[int], bytes]) -> Any:
  """The next message of a blocking stream.

  Args:
    read_bytes: returns exactly n bytes, or fewer at the end of the stream.

  Raises:
    EOFError: the stream ended.
    ValueError: the length is beyond `LONGEST`, or the body no JSON.
  """
  header = read_bytes(4)
  if len(header) < 4:
    raise EOFError('the stream ended')
  body = read_bytes(_length(header, LONGEST))
  if len(body) < _length(header, LONGEST):
    raise EOFError('the stream ended inside a message')
  return json.loads(body)


def take(buffer: bytearray, longest: int = LONGEST) -> list[Any]:
  """Removes the first message from `buffer`; [] until all of it has arrived.

  Raises:
    ValueError: the length is beyond `longest`, or the body no JSON.
    RecursionError: the JSON is nested too deeply.
  """
  if len(buffer) < 4:
    return []
  # Checked before the body arrives: a peer must not make us buffer without end.
  end = 4 + _length(buffer[:4], longest)
  if len(buffer) < end:
    return []
  message = json.loads(buffer[4:end])
  del buffer[:end]
  return [message]


def _length(header: bytes, longest: int) -> int:
  (length,) = struct.unpack('>I', header)
  if length > longest:
    raise ValueError(f'a message of {length} bytes')
  return length
