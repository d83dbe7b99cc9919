"""Safetensors files, read and written one block of rows at a time.

The library opens the file anew for every block: an open file is mapped into
memory, and all its pages that were ever read count as the process's own. It
can only write tensors that are all in memory at once, so writing is done here.

The format: the header's length (u64, little-endian), the header (JSON: dtype,
shape and byte offsets of each tensor), then the numbers in C order.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import json
import math
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors

DTYPES = {
  'F32': np.dtype(np.float32),
  'BF16': np.dtype(jnp.bfloat16),
  'F16': np.dtype(np.float16),
}
_POINTER = b'version https://git-lfs'


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor in a file.

  Attributes:
    path: of the file.
    name: of the tensor.
    dtype: as the file spells it, such as 'BF16'.
    shape: of the tensor.
  """

  path: pathlib.Path
  name: str
  dtype: str
  shape: tuple[int, ...]

  def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Rows `start` to `stop` (excluded; None: the last) of the first axis."""
    with safetensors.safe_open(self.path, 'numpy') as file:
      return file.get_slice(self.name)[start:stop]


def read_header(path: pathlib.Path) -> dict[str, Tensor]:
  """The tensors of a file by name.

  Raises:
    ValueError: the file is not safetensors, or is cut short.
  """
  with path.open('rb') as file:
    if file.read(len(_POINTER)) == _POINTER:
      raise ValueError(
        f'{path} is a Git LFS pointer, not the weights; run: git lfs pull'
      )
  try:
    with safetensors.safe_open(path, 'numpy') as file:
      slices = {name: file.get_slice(name) for name in file.offset_keys()}
      return {
        name: Tensor(path, name, part.get_dtype(), tuple(part.get_shape()))
        for name, part in slices.items()
      }
  except safetensors.SafetensorError as error:
    raise ValueError(
      f'{path} is damaged or cut short ({error}); fetch it again'
    ) from error


def write(
  path: pathlib.Path,
  shapes: Mapping[str, tuple[int, ...]],
  dtype: Any,
  blocks: Callable[[str], Iterator[np.ndarray]],
) -> None:
  """Writes a file of tensors of one dtype.

  Args:
    path: of the file.
    shapes: of each tensor by name, in the order in which they are written.
    dtype: float32, bfloat16 or float16.
    blocks: gives a tensor's numbers by its name, in blocks of consecutive rows.

  Raises:
    ValueError: `blocks` gave more or fewer numbers than the shape has.
  """
  dtype = np.dtype(dtype)
  spelt = next(name for name, known in DTYPES.items() if known == dtype)
  # transformers refuses files that do not say which library they are for.
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
