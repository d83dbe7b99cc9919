"""Weights of Hugging Face's Gemma 1, 2 and 3 in safetensors, read and written.

Tensors hold matrices as [out, in], parameters as [in, out]; both order output
features by head. Reading checks every name, shape and dtype before the first
number.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import functools
import json
import math
import pathlib
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from score_jax.interop import (
  hugging_face_config,
  param_builder,
  safetensors_files,
)
from score_jax.models import model_config

SINGLE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
MAX_FILE_BYTES = 5 * 10**9

_PREFIX = 'model.'  # in the files that are written
_PREFIXES = (_PREFIX, 'language_model.model.', 'model.language_model.', '')
_VISION = (
  'vision_tower.',
  'multi_modal_projector.',
  'model.vision_tower.',
  'model.multi_modal_projector.',
)
_EMBEDDING = 'embed_tokens.weight'
_HEADS = ('lm_head.weight', 'language_model.lm_head.weight')
_MATRICES = {
  'attention/q': 'self_attn.q_proj.weight',
  'attention/k': 'self_attn.k_proj.weight',
  'attention/v': 'self_attn.v_proj.weight',
  'attention/o': 'self_attn.o_proj.weight',
  'mlp/gate': 'mlp.gate_proj.weight',
  'mlp/up': 'mlp.up_proj.weight',
  'mlp/down': 'mlp.down_proj.weight',
}
_NORMS_GEMMA_1 = {
  'pre_attention_norm/scale': 'input_layernorm.weight',
  'pre_mlp_norm/scale': 'post_attention_layernorm.weight',
}
# What Gemma 1 calls post_attention_layernorm is its norm before the MLP.
_NORMS_GEMMA_2_3 = {
  'pre_attention_norm/scale': 'input_layernorm.weight',
  'post_attention_norm/scale': 'post_attention_layernorm.weight',
  'pre_mlp_norm/scale': 'pre_feedforward_layernorm.weight',
  'post_mlp_norm/scale': 'post_feedforward_layernorm.weight',
}
_QK_NORMS = {
  'attention/q_norm/scale': 'self_attn.q_norm.weight',
  'attention/k_norm/scale': 'self_attn.k_norm.weight',
}


class Tensor(Protocol):
  """A tensor of a file, in the layout [out, in]."""

  shape: tuple[int, ...]
  dtype: str  # one of `safetensors_files.DTYPES`

  def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Rows `start` to `stop` (excluded; None: the last) of the first axis."""


@dataclasses.dataclass(frozen=True)
class _Target:
  """The parameter that a tensor holds.

  Attributes:
    layer: of the model; None: outside the layers.
    leaf: path of the parameter, inside the layer if there is one.
    is_transposed: the tensor is the parameter's transpose.
    shape: of the parameter, of one layer.
  """

  layer: int | None
  leaf: str
  is_transposed: bool
  shape: tuple[int, ...]

  @property
  def tensor_shape(self) -> tuple[int, ...]:
    return self.shape[::-1] if self.is_transposed else self.shape


@functools.cache  # `blocks` asks for every tensor anew
def _targets(config: model_config.ModelConfig) -> dict[str, _Target]:
  """The model's tensors by name without prefix, in the forward pass's order."""
  norms = _NORMS_GEMMA_2_3 if config.post_norms else _NORMS_GEMMA_1
  if config.qk_norm:
    norms = norms | _QK_NORMS
  found = {}

  def add(name, layer, leaf, is_transposed=False):
    shape = param_builder.leaf_shape(config, layer, leaf)
    found[name] = _Target(layer, leaf, is_transposed, shape)

  add(_EMBEDDING, None, 'embedding')
  for layer in range(config.num_layers):
    for leaf, name in (_MATRICES | norms).items():
      add(f'layers.{layer}.{name}', layer, leaf, leaf in _MATRICES)
  add('norm.weight', None, 'final_norm/scale')
  return found


def load(
  directory: str | pathlib.Path,
  config: model_config.ModelConfig,
  *,
  dtype: Any = jnp.float32,
  shardings: Any = None,
) -> Any:
  """Reads the parameters of a Hugging Face checkpoint of Gemma 1, 2 or 3.

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
      or of another shape or dtype, or the output layer is not tied. The message
      names each.
  """
  builder = param_builder.ParamBuilder(config, dtype, shardings)
  for block in read_blocks(directory, config):
    builder.write(*block)
  return builder.finish()


def read_blocks(
  directory: str | pathlib.Path, config: model_config.ModelConfig
) -> Iterator[tuple[int | None, str, tuple[int, ...], np.ndarray]]:
  """Yields all numbers of a checkpoint as arguments of `ParamBuilder.write`.

  Raises:
    FileNotFoundError, ValueError: as `load`, before the first block.
  """
  hugging_face_config.check(config, directory)
  tensors = _read_headers(pathlib.Path(directory))
  yield from blocks_of(directory, tensors, config)


def blocks_of(
  path: str | pathlib.Path,
  tensors: Mapping[str, Tensor],
  config: model_config.ModelConfig,
) -> Iterator[tuple[int | None, str, tuple[int, ...], np.ndarray]]:
  """Yields all numbers of a model's tensors, wherever they are.

  Args:
    path: of the checkpoint, for errors.
    tensors: by their names in a Hugging Face file, without prefix.
    config: the model.

  Raises:
    ValueError: as `load`, before the first block.
  """
  targets = _targets(config)
  _check(path, tensors, targets)
  for name, target in targets.items():
    tensor = tensors[name]
    row_bytes = 4 * math.prod(tensor.shape[1:])
    rows = target.tensor_shape[0]
    for start, stop in param_builder.row_blocks(rows, row_bytes):
      block = tensor.read(start, stop)
      index = (start,) + (0,) * (block.ndim - 1)
      if target.is_transposed:
        index, block = index[::-1], block.T
      yield target.layer, target.leaf, index, block


def _read_headers(
  directory: pathlib.Path,
) -> dict[str, safetensors_files.Tensor]:
  """The text model's tensors by name without prefix, and its output layer."""
  tensors = {}
  for path in _parts(directory):
    tensors |= safetensors_files.read_header(path)
  prefix = next(
    (p for p in _PREFIXES if f'{p}{_EMBEDDING}' in tensors), _PREFIX
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
    existing = sorted(path.name for path in directory.iterdir())
    raise FileNotFoundError(
      f'{directory} lacks {", ".join(missing)}; it has {", ".join(existing)}'
    )
  return [directory / name for name in names]


def _check(
  directory,
  tensors: Mapping[str, Tensor],
  targets: Mapping[str, _Target],
) -> None:
  untied = [
    f'{name} differs from the embedding; only tied outputs are supported'
    for name in _HEADS
    if name in tensors and not _tied(tensors[name], tensors.get(_EMBEDDING))
  ]
  param_builder.reject_mismatches(
    directory,
    {
      name: (tensor.shape, tensor.dtype)
      for name, tensor in tensors.items()
      if name not in _HEADS
    },
    {name: target.tensor_shape for name, target in targets.items()},
    embedding=_EMBEDDING,
    dtypes=safetensors_files.DTYPES,
    others=untied,
  )


def _tied(head, embedding) -> bool:
  if embedding is None or (head.shape, head.dtype) != (
    embedding.shape,
    embedding.dtype,
  ):
    return False
  row_bytes = 4 * math.prod(head.shape[1:])
  return all(
    np.array_equal(head.read(*rows), embedding.read(*rows))
    for rows in param_builder.row_blocks(head.shape[0], row_bytes)
  )


def shapes(
  config: model_config.ModelConfig, rows: int
) -> dict[str, tuple[int, ...]]:
  """Shape of each tensor to write by name, in order.

  Args:
    config: the model.
    rows: of the embedding, padding included.
  """
  found = {
    _PREFIX + name: target.tensor_shape
    for name, target in _targets(config).items()
  }
  return found | {_PREFIX + _EMBEDDING: (rows, config.width)}


def blocks(
  config: model_config.ModelConfig,
  params: Any,
  name: str,
  *,
  dtype: Any,
  rows: int,
) -> Iterator[np.ndarray]:
  """Yields the numbers of a tensor to write, in blocks of consecutive rows.

  Args:
    config: the model.
    params: as from `transformer.init_params`.
    name: of the tensor, one of `shapes`.
    dtype: of the blocks.
    rows: of the embedding; those beyond the vocabulary are zero.
  """
  target = _targets(config)[name.removeprefix(_PREFIX)]
  axis = len(target.shape) - 1 if target.is_transposed else 0
  length = target.shape[axis]
  row_bytes = 4 * math.prod(target.shape) // length
  for start, stop in param_builder.row_blocks(length, row_bytes):
    first, sizes = [0] * len(target.shape), list(target.shape)
    first[axis], sizes[axis] = start, stop - start
    block = param_builder.read_block(
      config, params, target.layer, target.leaf, first, sizes, dtype
    )
    yield block.T if target.is_transposed else block
  if target.leaf == 'embedding':
    for start, stop in param_builder.row_blocks(rows - length, row_bytes):
      yield np.zeros((stop - start, config.width), dtype)


def write(
  directory: pathlib.Path,
  shapes: Mapping[str, tuple[int, ...]],
  dtype: Any,
  blocks: Callable[[str], Iterator[np.ndarray]],
  max_file_bytes: int = MAX_FILE_BYTES,
) -> None:
  """Writes tensors into one file, or into several and their index.

  Args:
    directory: where the files go.
    shapes: of the tensors by name, in order.
    dtype: of all tensors.
    blocks: gives a tensor's numbers by its name, see `safetensors_files.write`.
    max_file_bytes: of the numbers in one file; a tensor is never split.
  """
  sizes = {
    name: math.prod(shape) * np.dtype(dtype).itemsize
    for name, shape in shapes.items()
  }
  parts = _split(sizes, max_file_bytes)
  files = [SINGLE]
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
    (directory / INDEX).write_text(json.dumps(index, indent=2) + '\n')
  for file, part in zip(files, parts):
    safetensors_files.write(
      directory / file, {name: shapes[name] for name in part}, dtype, blocks
    )


def _split(sizes: Mapping[str, int], max_bytes: int) -> list[list[str]]:
  """Names in order, cut where a part would have more than `max_bytes`."""
  parts, room = [], 0
  for name, size in sizes.items():
    if not parts or size > room:
      parts.append([])
      room = max_bytes
    parts[-1].append(name)
    room -= size
  return parts
