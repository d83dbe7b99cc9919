"""Weights of Google's Orbax checkpoints of Gemma 1, 2 and 3 (text).

N heads, K key-value heads, H head dimension, D width, F MLP width:

    embedder/input_embedding             [rows, D]
    layer_i/attn/q_einsum/w              [N, D, H]
    layer_i/attn/kv_einsum/w             [2, K, D, H]
    layer_i/attn/qkv_einsum/w            [3, N, D, H], instead of both if N = K
    layer_i/attn/attn_vec_einsum/w       [N, H, D]
    layer_i/attn/_query_norm/scale       [H], as _key_norm (Gemma 3)
    layer_i/mlp/gating_einsum            [2, D, F], or [2, F, D] (Gemma 2 9B and
                                         27B, Gemma 3)
    layer_i/mlp/linear                   [F, D]
    layer_i/pre_attention_norm/scale     [D], as pre_ffw_norm; in Gemma 2 and 3
                                         post_attention_norm, post_ffw_norm too
    final_norm/scale                     [D]

The published files have two levels, 'transformer/layer_0/mlp/linear' and 'w';
newer ones nest every part of the name and end at 'linear'; trainers put all of
it under 'params'. Names are joined by '/', so that all three look the same.
"""

from collections.abc import Iterator
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from score_jax.interop import param_builder
from score_jax.models import model_config

_EMBEDDING = 'embedder/input_embedding'
_PREFIXES = ('transformer/', 'params/', 'params/transformer/', '')
_VISION = (
  'SigLiPFromPatches_0/',
  'vision_encoder/',
  'params/vision_encoder/',
)
_VISION_IN_EMBEDDER = 'embedder/mm_'
_NORMS = {
  'pre_attention_norm/scale': 'pre_attention_norm/scale',
  'pre_ffw_norm/scale': 'pre_mlp_norm/scale',
}
_POST_NORMS = {
  'post_attention_norm/scale': 'post_attention_norm/scale',
  'post_ffw_norm/scale': 'post_mlp_norm/scale',
}
_QK_NORMS = {
  'attn/_query_norm/scale': 'attention/q_norm/scale',
  'attn/_key_norm/scale': 'attention/k_norm/scale',
}
_DTYPES = ('float32', 'bfloat16', 'float16')


def load(
  path: str | pathlib.Path,
  config: model_config.ModelConfig,
  *,
  dtype: Any = jnp.float32,
  shardings: Any = None,
) -> Any:
  """Reads the parameters of an Orbax checkpoint of Gemma 1, 2 or 3.

  Embedding rows beyond `config.vocab_size` (padding) are cut; tensors of a
  vision tower are not read. Host memory beyond the result stays near one
  tensor.

  Args:
    path: directory of the checkpoint, the one with `_METADATA`.
    config: the model; must have the checkpoint's shapes, since the checkpoint
      does not describe its model otherwise.
    dtype: of the parameters.
    shardings: of each parameter, a tree like them; None: the default device.

  Returns:
    A tree like `transformer.init_params`.

  Raises:
    ValueError: a tensor is missing, extra, of another shape or dtype, or cannot
      be read. The message names each.
  """
  path = pathlib.Path(path).resolve()
  builder = param_builder.ParamBuilder(config, dtype, shardings)
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    tensors = _read_metadata(checkpointer, path)
    is_transposed = _is_gating_transposed(tensors, config)
    shapes = tensor_shapes(config, is_transposed)
    param_builder.reject_mismatches(
      path,
      {
        name: (tuple(leaf.shape), str(leaf.dtype))
        for name, (_, leaf) in tensors.items()
      },
      shapes,
      embedding=_EMBEDDING,
      dtypes=_DTYPES,
    )
    for name in shapes:
      tensor = _read(checkpointer, path, name, tensors[name])
      for layer, leaf, part in _parts(name, tensor, config, is_transposed):
        _write(builder, layer, leaf, part)
  return builder.finish()


def _read_metadata(checkpointer, path) -> dict[str, tuple[tuple, Any]]:
  """Tree path and metadata of the text model's tensors, by normalised name."""
  reason = 'Orbax finds none'
  try:
    metadata = checkpointer.metadata(path).item_metadata
  except Exception as error:
    # Orbax, tensorstore and json have no common exception for damaged files.
    metadata, reason = None, _first_line(error)
  if metadata is None:
    raise ValueError(
      f'the metadata of {path} cannot be read ({reason}); it is no Orbax '
      'checkpoint, or damaged: fetch it again'
    )
  leaves = {}
  for keys, leaf in jax.tree.leaves_with_path(metadata.tree):
    names = tuple(str(getattr(k, 'key', getattr(k, 'idx', k))) for k in keys)
    leaves['/'.join(names)] = names, leaf
  prefix = next((p for p in _PREFIXES if p + _EMBEDDING in leaves), None)
  if prefix is None:
    some = ', '.join(sorted(leaves)[:3]) or 'nothing'
    raise ValueError(
      f'{path} is no Gemma checkpoint: it has no {_EMBEDDING}; it has {some}'
    )
  is_training_state = prefix.startswith('params/')
  tensors = {}
  for name, entry in leaves.items():
    if is_training_state and not name.startswith('params/'):
      continue  # optimizer state
    if name.startswith(_VISION):
      continue
    name = name.removeprefix(prefix)
    if '/mlp/' in name:
      name = name.removesuffix('/w')
    if not name.startswith(_VISION_IN_EMBEDDER):
      tensors[name] = entry
  return tensors


def _is_gating_transposed(tensors, config) -> bool:
  """Whether gating_einsum is [2, F, D]."""
  name = 'layer_0/mlp/gating_einsum'
  if config.width == config.mlp_width:
    raise ValueError(
      f'width and mlp_width are both {config.width}: the two layouts of '
      f'{name} cannot be told apart'
    )
  if name not in tensors:
    return False
  return tuple(tensors[name][1].shape[1:]) == (config.mlp_width, config.width)


def tensor_shapes(
  config: model_config.ModelConfig, is_transposed: bool = False
) -> dict[str, tuple[int, ...]]:
  """Returns the shape of every tensor by its name in the nested style.

  Args:
    config: the model.
    is_transposed: whether gating_einsum is [2, F, D].
  """
  n, k, h = config.num_heads, config.num_kv_heads, config.head_dim
  d, f = config.width, config.mlp_width
  of_layer = {}
  if n == k:
    of_layer['attn/qkv_einsum/w'] = (3, n, d, h)
  else:
    of_layer['attn/q_einsum/w'] = (n, d, h)
    of_layer['attn/kv_einsum/w'] = (2, k, d, h)
  of_layer['attn/attn_vec_einsum/w'] = (n, h, d)
  of_layer['mlp/gating_einsum'] = (2, f, d) if is_transposed else (2, d, f)
  of_layer['mlp/linear'] = (f, d)
  of_layer |= dict.fromkeys(_NORMS, (d,))
  if config.post_norms:
    of_layer |= dict.fromkeys(_POST_NORMS, (d,))
  if config.qk_norm:
    of_layer |= dict.fromkeys(_QK_NORMS, (h,))
  return {
    _EMBEDDING: (config.vocab_size, d),
    **{
      f'layer_{layer}/{name}': shape
      for layer in range(config.num_layers)
      for name, shape in of_layer.items()
    },
    'final_norm/scale': (d,),
  }


def _read(checkpointer, path, name, entry) -> np.ndarray:
  """Restores one tensor, without reading the others."""
  keys, leaf = entry
  item = 0
  arguments = ocp.RestoreArgs(restore_type=np.ndarray)
  for key in reversed(keys):
    item, arguments = {key: item}, {key: arguments}
  try:
    restored = checkpointer.restore(
      path,
      args=ocp.args.PyTreeRestore(
        item=item, restore_args=arguments, partial_restore=True
      ),
    )
  except Exception as error:
    # As above: no common exception.
    raise ValueError(
      f'{name} of {path} cannot be read ({_first_line(error)}); the checkpoint '
      'is damaged: fetch it again'
    ) from error
  [tensor] = jax.tree.leaves(restored)
  return tensor


def _parts(
  name: str, tensor: np.ndarray, config, is_transposed
) -> Iterator[tuple[int | None, str, np.ndarray]]:
  """Yields a tensor's parameters: layer, leaf, and a view of the numbers."""
  if name == _EMBEDDING:
    yield None, 'embedding', tensor[: config.vocab_size]
    return
  if name == 'final_norm/scale':
    yield None, name, tensor
    return
  layer, _, rest = name.removeprefix('layer_').partition('/')
  layer = int(layer)
  if rest == 'attn/q_einsum/w':
    yield layer, 'attention/q', _by_head(tensor)
  elif rest in ('attn/kv_einsum/w', 'attn/qkv_einsum/w'):
    for leaf, part in zip('kv' if len(tensor) == 2 else 'qkv', tensor):
      yield layer, f'attention/{leaf}', _by_head(part)
  elif rest == 'attn/attn_vec_einsum/w':
    yield layer, 'attention/o', tensor.reshape(-1, tensor.shape[-1])
  elif rest == 'mlp/gating_einsum':
    for leaf, part in zip(('gate', 'up'), tensor):
      yield layer, f'mlp/{leaf}', part.T if is_transposed else part
  elif rest == 'mlp/linear':
    yield layer, 'mlp/down', tensor
  else:
    yield layer, (_NORMS | _POST_NORMS | _QK_NORMS)[rest], tensor


def _by_head(tensor: np.ndarray) -> np.ndarray:
  """Reshapes [heads, D, H] to [D, heads * H]."""
  return np.moveaxis(tensor, 0, 1).reshape(tensor.shape[1], -1)


def _write(builder, layer, leaf, values) -> None:
  row_bytes = values.itemsize * math.prod(values.shape[1:])
  for start, stop in param_builder.row_blocks(len(values), row_bytes):
    index = (start,) + (0,) * (values.ndim - 1)
    builder.write(layer, leaf, index, values[start:stop])


def _first_line(error: BaseException) -> str:
  text = str(error).strip().partition('\n')[0]
  return f'{type(error).__name__}: {text[:200]}'
