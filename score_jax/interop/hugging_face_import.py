"""Weights of Hugging Face directories: Gemma 1, 2 and 3 in safetensors.

Every name, shape and type is checked before the first number is read.
"""

from collections.abc import Iterator, Mapping
import json
import math
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from score_jax.interop import (
  hugging_face_config,
  hugging_face_layout,
  mismatches,
  safetensors_files,
)
from score_jax.models import model_config, param_builder

INDEX = 'model.safetensors.index.json'
SINGLE = 'model.safetensors'

_PREFIXES = ('model.', 'language_model.model.', 'model.language_model.', '')
_VISION = (
  'vision_tower.',
  'multi_modal_projector.',
  'model.vision_tower.',
  'model.multi_modal_projector.',
)
_HEADS = (
  hugging_face_layout.HEAD,
  f'language_model.{hugging_face_layout.HEAD}',
)


def load(
  directory: str | pathlib.Path,
  config: model_config.ModelConfig,
  *,
  dtype: Any = jnp.float32,
  shardings: Any = None,
) -> Any:
  """Parameters of a Hugging Face checkpoint of Gemma 1, 2 or 3.

  Embedding rows beyond `config.vocab_size` (padding) are cut; tensors of a
  vision tower are not read. Host memory beyond the result: one block.

  Args:
    directory: holds `config.json` and `model.safetensors`, or the parts that
      `model.safetensors.index.json` names.
    config: the model; must agree with `config.json`.
    dtype: of the parameters.
    shardings: of each parameter, a tree like them; None: the default device.

  Returns:
    A tree like `transformer.init_params`.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: the checkpoint is of another model, a tensor is missing, extra
      or of another shape or kind, or the output layer is not tied. The message
      names each.
  """
  builder = param_builder.ParamBuilder(config, dtype, shardings)
  for block in read_blocks(directory, config):
    builder.write(*block)
  return builder.finish()


def read_blocks(
  directory: str | pathlib.Path, config: model_config.ModelConfig
) -> Iterator[tuple[int | None, str, tuple[int, ...], np.ndarray]]:
  """All numbers of a checkpoint, block by block, as `ParamBuilder.write` takes.

  Raises:
    FileNotFoundError, ValueError: as `load`, before the first block.
  """
  hugging_face_config.check(config, directory)
  tensors = read_headers(directory)
  places = hugging_face_layout.places(config)
  _check(directory, tensors, places, config)
  for name, place in places.items():
    tensor = tensors[name]
    shape = param_builder.leaf_shape(config, place.layer, place.leaf)
    rows = shape[-1] if place.is_transposed else shape[0]
    row_bytes = 4 * math.prod(tensor.shape[1:])
    for start, stop in safetensors_files.row_blocks(rows, row_bytes):
      block = tensor.read(start, stop)
      index = (start,) + (0,) * (block.ndim - 1)
      if place.is_transposed:
        index, block = index[::-1], block.T
      yield place.layer, place.leaf, index, block


def read_headers(
  directory: str | pathlib.Path,
) -> dict[str, safetensors_files.Tensor]:
  """Tensors of a checkpoint by name, without the prefix of the text model.

  Those of a vision tower are left out.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file or the index is damaged.
  """
  directory = pathlib.Path(directory)
  tensors = {}
  for path in _parts(directory):
    tensors |= safetensors_files.read_header(path)
  prefix = next(
    (p for p in _PREFIXES if f'{p}{hugging_face_layout.EMBEDDING}' in tensors),
    _PREFIXES[0],
  )
  return {
    name.removeprefix(prefix): tensor
    for name, tensor in tensors.items()
    if not name.startswith(_VISION)
  }


def _parts(directory: pathlib.Path) -> list[pathlib.Path]:
  index = directory / INDEX
  names = [SINGLE]
  if index.is_file():
    try:
      names = sorted(set(json.loads(index.read_text())['weight_map'].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise ValueError(
        f'{index} is damaged ({error!r}); fetch it again'
      ) from error
  missing = [name for name in names if not (directory / name).is_file()]
  if missing:
    there = sorted(path.name for path in directory.iterdir())
    raise FileNotFoundError(
      f'{directory} lacks {", ".join(missing)}; there are {", ".join(there)}'
    )
  return [directory / name for name in names]


def _check(
  directory,
  tensors: Mapping[str, safetensors_files.Tensor],
  places: Mapping[str, hugging_face_layout.Place],
  config: model_config.ModelConfig,
) -> None:
  wrong = []
  for name, place in places.items():
    if name not in tensors:
      wrong.append(f'{name} is missing')
      continue
    shape = param_builder.leaf_shape(config, place.layer, place.leaf)
    shape = shape[::-1] if place.is_transposed else shape
    wrong += _mistakes(tensors[name], shape, name)
  for name in tensors.keys() - places.keys():
    if name not in _HEADS:
      wrong.append(f'{tensors[name].name} is not part of the model')
    elif not _tied(tensors, name):
      wrong.append(
        f'{name} differs from the embedding; only tied outputs are supported'
      )
  mismatches.refuse(directory, wrong)


def _mistakes(tensor, shape, name):
  is_padded = (
    name == hugging_face_layout.EMBEDDING and tensor.shape[:1] > shape[:1]
  )
  first = 1 if is_padded else 0
  if tensor.shape[first:] != shape[first:]:
    yield f'{tensor.name} is {list(tensor.shape)}, expected {list(shape)}'
  if tensor.dtype not in safetensors_files.DTYPES:
    yield (
      f'{tensor.name} holds {tensor.dtype}, expected one of '
      f'{", ".join(safetensors_files.DTYPES)}'
    )


def _tied(tensors, head) -> bool:
  head, embedding = (
    tensors.get(name) for name in (head, hugging_face_layout.EMBEDDING)
  )
  if embedding is None or (head.shape, head.dtype) != (
    embedding.shape,
    embedding.dtype,
  ):
    return False
  row_bytes = 4 * math.prod(head.shape[1:])
  return all(
    np.array_equal(head.read(*rows), embedding.read(*rows))
    for rows in safetensors_files.row_blocks(head.shape[0], row_bytes)
  )
