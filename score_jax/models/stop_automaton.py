"""Stop texts: texts that end an attempt, whatever pieces they come in.

A text can be tokenised in several ways, and can begin or end inside a piece. So
stop texts are looked for in bytes: by an automaton that reads one whole piece
at a time, for the device, and in an attempt that has ended, for the host.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


def transition_table(
  texts: Sequence[bytes], pieces: Sequence[bytes]
) -> np.ndarray:
  """The automaton that finds stop texts, read piece by piece.

  Its state is what the next bytes may continue: the longest end of the bytes so
  far that a stop text begins with (Aho and Corasick, 1975). State 0 is the
  first. The last one, S - 1, says that a stop text has been completed, and is
  never left.

  Args:
    texts: the stop texts, none of them empty.
    pieces: the bytes of each of the V pieces, see `Tokenizer.piece_bytes`.

  Returns:
    The state after each piece in each state, [S, V], of the smallest unsigned
    type that holds S - 1.
  """
  by_byte = _byte_table(tuple(texts))
  length = np.array([len(piece) for piece in pieces])
  start = np.cumsum(length) - length
  data = np.frombuffer(b''.join(pieces), np.uint8)
  states = np.arange(len(by_byte), dtype=by_byte.dtype)
  table = np.repeat(states[:, None], len(pieces), axis=1)
  # One more byte of all pieces that have one.
  for position in range(max(length, default=0)):
    index = np.flatnonzero(length > position)
    table[:, index] = by_byte[table[:, index], data[start[index] + position]]
  return table


def _byte_table(texts: tuple[bytes, ...]) -> np.ndarray:
  """The same automaton, byte by byte, [S, 256]."""
  prefixes = {text[:size] for text in texts for size in range(len(text))}
  # Sorted, so that all processes number the states alike; b'' is the first.
  number = {prefix: i for i, prefix in enumerate(sorted(prefixes))}
  complete = len(number)

  def after(prefix, byte):
    seen = prefix + bytes([byte])
    if seen.endswith(texts):
      return complete
    ends = (seen[size:] for size in range(len(seen) + 1))
    return next(number[end] for end in ends if end in number)

  rows = [[after(prefix, byte) for byte in range(256)] for prefix in number]
  return np.array([*rows, [complete] * 256], np.min_scalar_type(complete))


class Match(NamedTuple):
  """Where a stop text stands in a sequence of pieces.

  Attributes:
    before: number of pieces that begin before it.
    overlap: bytes of the last of these that are of the stop text already.
    end: number of pieces up to the one that completes it.
  """

  before: int
  overlap: int
  end: int


def find(pieces: Sequence[bytes], texts: Sequence[bytes]) -> Match | None:
  """The stop text that is completed first, None where there is none.

  Of several that are completed by the same byte, the longest.
  """
  data = b''.join(pieces)
  found = [
    (start + len(text), start)
    for text in texts
    if (start := data.find(text)) >= 0
  ]
  if not found:
    return None
  end, start = min(found)
  begins = np.cumsum([0, *map(len, pieces)])
  before = int(np.searchsorted(begins, start))
  return Match(
    before, int(begins[before]) - start, int(np.searchsorted(begins, end))
  )
