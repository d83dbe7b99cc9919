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
  """The next message.

  Args:
    read_bytes: returns exactly n bytes, or fewer at the end of the stream.

  Raises:
    EOFError: the stream ended.
    ValueError: the length is beyond `LONGEST`.
  """
  header = read_bytes(4)
  if len(header) < 4:
    raise EOFError('the stream ended')
  (length,) = struct.unpack('>I', header)
  if length > LONGEST:
    raise ValueError(f'a message of {length} bytes')
  body = read_bytes(length)
  if len(body) < length:
    raise EOFError('the stream ended inside a message')
  return json.loads(body)


class Splitter:
  """Puts messages together from pieces of a stream."""

  def __init__(self):
    self._buffer = bytearray()

  def feed(self, data: bytes) -> list[Any]:
    """The messages that `data` completes."""
    self._buffer += data
    messages = []
    while len(self._buffer) >= 4:
      (length,) = struct.unpack_from('>I', self._buffer)
      if length > LONGEST:
        raise ValueError(f'a message of {length} bytes')
      if len(self._buffer) < 4 + length:
        break
      messages.append(json.loads(self._buffer[4 : 4 + length]))
      del self._buffer[: 4 + length]
    return messages
