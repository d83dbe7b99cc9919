"""A model's weights as the tensors of Hugging Face files, written in blocks."""

from collections.abc import Callable, Iterator, Mapping
import json
import math
import pathlib
from typing import Any

import numpy as np

from score_jax.interop import (
  hugging_face_import,
  hugging_face_layout,
  safetensors_files,
)
from score_jax.models import model_config, param_builder

PREFIX = 'model.'
MAX_FILE_BYTES = 5 * 10**9


def shapes(
  config: model_config.ModelConfig, rows: int
) -> dict[str, tuple[int, ...]]:
  """Shape of each tensor in the files, by name, in their order."""
  found = {}
  for name, place in hugging_face_layout.places(config).items():
    shape = param_builder.leaf_shape(config, place.layer, place.leaf)
    if name == hugging_face_layout.EMBEDDING:
      shape = (rows, *shape[1:])
    found[PREFIX + name] = shape[::-1] if place.is_transposed else shape
  return found


def blocks(
  config: model_config.ModelConfig,
  params: Any,
  name: str,
  *,
  dtype: Any,
  rows: int,
) -> Iterator[np.ndarray]:
  """The numbers of a tensor in the files, some rows at a time."""
  place = hugging_face_layout.places(config)[name.removeprefix(PREFIX)]
  shape = param_builder.leaf_shape(config, place.layer, place.leaf)
  axis = len(shape) - 1 if place.is_transposed else 0
  row_bytes = 4 * math.prod(shape) // shape[axis]
  for start, stop in safetensors_files.row_blocks(shape[axis], row_bytes):
    first, sizes = [0] * len(shape), list(shape)
    first[axis], sizes[axis] = start, stop - start
    block = param_builder.read_block(
      config, params, place.layer, place.leaf, first, sizes, dtype
    )
    yield block.T if place.is_transposed else block
  if place.leaf == 'embedding':
    for start, stop in safetensors_files.row_blocks(rows - shape[0], row_bytes):
      yield np.zeros((stop - start, *shape[1:]), dtype)


def write(
  directory: pathlib.Path,
  shapes: Mapping[str, tuple[int, ...]],
  dtype: Any,
  blocks: Callable[[str], Iterator[np.ndarray]],
  max_file_bytes: int = MAX_FILE_BYTES,
) -> None:
  """Writes tensors into one file, or several and their index.

  Args:
    directory: where.
    shapes: of the tensors by name, in their order.
    dtype: of all tensors.
    blocks: gives a tensor's numbers by its name, see `safetensors_files.write`.
    max_file_bytes: of the numbers in one file.
  """
  sizes = {
    name: math.prod(shape) * np.dtype(dtype).itemsize
    for name, shape in shapes.items()
  }
  parts = _parts(sizes, max_file_bytes)
  files = [hugging_face_import.SINGLE]
  if len(parts) > 1:
    files = [
      f'model-{i + 1:05d}-of-{len(parts):05d}.safetensors'
      for i in range(len(parts))
    ]
    index = {
      'metadata': {'total_size': sum(sizes.values())},
      'weight_map': {
        name: file for file, part in zip(files, parts) for name in part
      },
    }
    path = directory / hugging_face_import.INDEX
    path.write_text(json.dumps(index, indent=2) + '\n')
  for file, part in zip(files, parts):
    safetensors_files.write(
      directory / file, {name: shapes[name] for name in part}, dtype, blocks
    )


def _parts(sizes: Mapping[str, int], most: int) -> list[list[str]]:
  """Names in order, cut where a part would have more than `most` bytes."""
  parts, room = [], 0
  for name, size in sizes.items():
    if not parts or size > room:
      parts.append([])
      room = most
    parts[-1].append(name)
    room -= size
  return parts
