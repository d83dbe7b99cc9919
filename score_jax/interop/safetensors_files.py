"""Safetensors files, rows at a time: neither end ever holds a whole file.

The format: a length (u64, little-endian), so many bytes of JSON that give each
tensor's type, shape and place, then the numbers, in C order. The library of
the same name maps files into memory, where every page that was read counts as
the process's own, and writes only what is all in memory at once.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import json
import math
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

DTYPES = {
  'F32': np.dtype(np.float32),
  'BF16': np.dtype(jnp.bfloat16),
  'F16': np.dtype(np.float16),
}
_BLOCK_BYTES = 2**26
_POINTER = b'version https://git-lfs'


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor in a file.

  Attributes:
    path: of the file.
    name: of the tensor.
    dtype: as the file spells it, such as 'BF16'.
    shape: of the tensor.
    offset: of its first byte in the file.
  """

  path: pathlib.Path
  name: str
  dtype: str
  shape: tuple[int, ...]
  offset: int

  def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Rows `start` to `stop` (excluded; None: the last) of its first axis."""
    dtype = DTYPES[self.dtype]
    stop = self.shape[0] if stop is None else stop
    row = math.prod(self.shape[1:]) * dtype.itemsize
    rows = np.fromfile(
      self.path,
      np.uint8,
      count=(stop - start) * row,
      offset=self.offset + start * row,
    )
    return rows.view(dtype).reshape(stop - start, *self.shape[1:])


def row_blocks(
  rows: int, row_bytes: int, block_bytes: int = _BLOCK_BYTES
) -> Iterator[tuple[int, int]]:
  """Consecutive (start, stop) of at most `block_bytes`, at least a row each."""
  step = max(1, block_bytes // max(1, row_bytes))
  for start in range(0, rows, step):
    yield start, min(start + step, rows)


def read_header(path: pathlib.Path) -> dict[str, Tensor]:
  """The tensors of a file by name.

  Raises:
    ValueError: it is no safetensors file, or not all of one.
  """
  with path.open('rb') as file:
    start = file.read(len(_POINTER))
    file.seek(0)
    if start == _POINTER:
      raise ValueError(
        f'{path} is a Git LFS pointer, not the weights; run: git lfs pull'
      )
    try:
      return _parse(path, file)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise ValueError(
        f'{path} is damaged or cut short ({error}); fetch it again'
      ) from error


def _parse(path, file) -> dict[str, Tensor]:
  size = path.stat().st_size
  length = int.from_bytes(file.read(8), 'little')
  if not 0 < length <= size - 8:
    raise ValueError('no safetensors header')
  header = json.loads(file.read(length))
  header.pop('__metadata__', None)
  data, end = 8 + length, 0
  tensors = {}
  for name, entry in header.items():
    first, last = entry['data_offsets']
    shape = tuple(entry['shape'])
    dtype = DTYPES.get(entry['dtype'])
    if dtype and last - first != math.prod(shape) * dtype.itemsize:
      raise ValueError(f'{name} has {last - first} bytes for {list(shape)}')
    tensors[name] = Tensor(path, name, entry['dtype'], shape, data + first)
    end = max(end, last)
  if data + end != size:
    raise ValueError(f'{size} bytes, the header speaks of {data + end}')
  return tensors


def write(
  path: pathlib.Path,
  shapes: Mapping[str, tuple[int, ...]],
  dtype: Any,
  blocks: Callable[[str], Iterator[np.ndarray]],
) -> None:
  """Writes a file of tensors of one dtype.

  Args:
    path: of the file.
    shapes: of each tensor, by name, in the order in which they are written.
    dtype: float32, bfloat16 or float16.
    blocks: gives a tensor's numbers by its name, consecutive rows at a time.

  Raises:
    ValueError: `blocks` gave more or fewer numbers than the shape has.
  """
  dtype = np.dtype(dtype)
  spelt = next(name for name, known in DTYPES.items() if known == dtype)
  header: dict[str, Any] = {'__metadata__': {'format': 'pt'}}
  end = 0
  for name, shape in shapes.items():
    start, end = end, end + math.prod(shape) * dtype.itemsize
    header[name] = {
      'dtype': spelt,
      'shape': list(shape),
      'data_offsets': [start, end],
    }
  text = json.dumps(header).encode()
  text += b' ' * (-len(text) % 8)  # so that the numbers are aligned
  with path.open('wb') as file:
    file.write(len(text).to_bytes(8, 'little') + text)
    for name in shapes:
      for block in blocks(name):
        contiguous = np.ascontiguousarray(block, dtype)
        file.write(contiguous.reshape(-1).view(np.uint8).data)
      if file.tell() != 8 + len(text) + header[name]['data_offsets'][1]:
        raise ValueError(f'{name} does not have the numbers of its shape')
