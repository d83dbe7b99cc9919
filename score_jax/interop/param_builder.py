"""Parameters read from checkpoints and written to them, block by block.

`ParamBuilder` copies each block of numbers from the host straight into the
shards of its leaf, in place. So importing holds one block beyond the result,
whatever the stacking of layers, the mesh, or the size of a tensor.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_jax.models import model_config, transformer

_BLOCK_BYTES = 2**26
_MAX_LISTED = 20


class ParamBuilder:
  """A tree like `transformer.init_params`, to be filled.

  A leaf is addressed by its layer and its path inside the layer, such as
  (3, 'attention/q'), or by (None, 'embedding') and (None, 'final_norm/scale').
  """

  def __init__(
    self,
    config: model_config.ModelConfig,
    dtype: Any = jnp.float32,
    shardings: Any = None,
  ):
    """Starts with an empty tree; buffers are allocated by the first write.

    Args:
      config: the model.
      dtype: of the parameters.
      shardings: of each parameter, a tree like them; None: all on the default
        device, uncommitted.
    """
    self._config = config
    self._tree = param_shapes(config)
    trees = (self._tree,) if shardings is None else (self._tree, shardings)
    leaves = jax.tree.map(
      lambda leaf, sharding=None: _Leaf(leaf.shape, dtype, sharding), *trees
    )
    self._leaves = {
      path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(leaves)
    }

  def write(
    self,
    layer: int | None,
    leaf: str,
    start: Sequence[int],
    block: np.ndarray,
  ) -> None:
    """Writes a block of a leaf's numbers at `start`, its first index."""
    path, repeat = locate(self._config, layer, leaf)
    if repeat is not None:
      start, block = (repeat, *start), block[None]
    self._leaves[path].write(start, block)

  def finish(self) -> Any:
    """Returns the parameters; what was never written is zero."""
    return jax.tree.map_with_path(
      lambda path, _: self._leaves.pop(path_name(path)).finish(), self._tree
    )


@functools.cache
def param_shapes(config: model_config.ModelConfig) -> Any:
  """Shapes of the parameters, a tree of `jax.ShapeDtypeStruct`."""
  return jax.eval_shape(
    lambda: transformer.init_params(config, jax.random.key(0))
  )


def leaf_shape(
  config: model_config.ModelConfig, layer: int | None, leaf: str
) -> tuple[int, ...]:
  """Shape of a leaf; of a stacked one, without the axis of layers."""
  path, repeat = locate(config, layer, leaf)
  shape = _at(param_shapes(config), path).shape
  return shape if repeat is None else shape[1:]


def read_block(
  config: model_config.ModelConfig,
  params: Any,
  layer: int | None,
  leaf: str,
  start: Sequence[int],
  shape: Sequence[int],
  dtype: Any,
) -> np.ndarray:
  """Copies a block of a leaf to the host: the inverse of `write`."""
  path, repeat = locate(config, layer, leaf)
  if repeat is not None:
    start, shape = (repeat, *start), (1, *shape)
  block = _read(
    _at(params, path),
    np.array(start, np.int32),
    shape=tuple(shape),
    dtype=np.dtype(dtype),
  )
  return np.asarray(block) if repeat is None else np.asarray(block)[0]


def _at(tree: Any, path: str) -> Any:
  for key in path.split('/'):
    tree = tree[key]
  return tree


def path_name(path: Any) -> str:
  """A tree path as text, such as 'pattern/0/attention/q'."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def locate(
  config: model_config.ModelConfig, layer: int | None, leaf: str
) -> tuple[str, int | None]:
  """Path of a layer's leaf in the tree, and its index if layers are stacked."""
  if layer is None:
    return leaf, None
  repeat, place = divmod(layer, len(config.layer_pattern))
  if repeat < config.num_repeats:
    return f'pattern/{place}/{leaf}', repeat
  return f'remainder/{place}/{leaf}', None


def row_blocks(
  rows: int, row_bytes: int, block_bytes: int = _BLOCK_BYTES
) -> Iterator[tuple[int, int]]:
  """Splits rows into (start, stop) of at most `block_bytes`, one row at least.

  Blocks of 64 MiB are large enough for a disk and small beside any model.
  """
  step = max(1, block_bytes // max(1, row_bytes))
  for start in range(0, rows, step):
    yield start, min(start + step, rows)


def reject_mismatches(
  path: str | pathlib.Path,
  found: Mapping[str, tuple[tuple[int, ...], str]],
  shapes: Mapping[str, tuple[int, ...]],
  *,
  embedding: str,
  dtypes: Collection[str],
  others: Iterable[str] = (),
) -> None:
  """Rejects a checkpoint whose tensors are not those of the model.

  Args:
    path: of the checkpoint.
    found: shape and dtype of each of its tensors by name.
    shapes: that the model needs.
    embedding: name of the tensor that may have more rows, which are padding.
    dtypes: that can be read.
    others: further lines for the message.

  Raises:
    ValueError: a tensor is missing, extra, of another shape or of a dtype that
      cannot be read. The message has a line for each of the first 20.
  """
  lines = sorted([*others, *_mismatches(found, shapes, embedding, dtypes)])
  if lines:
    listed = '\n'.join(f'  {line}' for line in lines[:_MAX_LISTED])
    rest = len(lines) - _MAX_LISTED
    more = f'\n  and {rest} more' if rest > 0 else ''
    raise ValueError(f'{path} does not fit the model:\n{listed}{more}')


def _mismatches(found, shapes, embedding, dtypes) -> Iterator[str]:
  for name, shape in shapes.items():
    if name not in found:
      yield f'{name} is missing'
      continue
    has, dtype = found[name]
    is_padded = name == embedding and has[:1] > shape[:1]
    if has[is_padded:] != shape[is_padded:]:
      yield f'{name} is {list(has)}, expected {list(shape)}'
    if dtype not in dtypes:
      yield f'{name} holds {dtype}, expected one of {", ".join(dtypes)}'
  for name in found.keys() - shapes.keys():
    yield f'{name} is not part of the model'


class _Leaf:
  """One array, as a buffer on each device that holds a shard of it."""

  def __init__(self, shape, dtype, sharding):
    self.shape = shape
    self._dtype = dtype
    self._sharding = sharding
    self._buffers = {}
    if sharding is None:
      self._bounds = {None: tuple((0, size) for size in shape)}
    else:
      indices = sharding.addressable_devices_indices_map(shape)
      self._bounds = {
        device: tuple(
          part.indices(size)[:2] for part, size in zip(index, shape)
        )
        for device, index in indices.items()
      }

  def write(self, start, block) -> None:
    stop = [first + size for first, size in zip(start, block.shape)]
    for device, bounds in self._bounds.items():
      # The intersection of block and shard, in the leaf's indices.
      low = [max(a, b) for a, (b, _) in zip(start, bounds)]
      high = [min(a, b) for a, (_, b) in zip(stop, bounds)]
      if any(a >= b for a, b in zip(low, high)):
        continue
      part = block[
        tuple(slice(a - c, b - c) for a, b, c in zip(low, high, start))
      ]
      self._buffers[device] = _write(
        self._take_buffer(device),
        jax.device_put(part, device),
        np.array([a - b for a, (b, _) in zip(low, bounds)], np.int32),
      )
    # Without waiting, the blocks of later calls would queue up on the host.
    jax.block_until_ready(list(self._buffers.values()))

  def finish(self) -> jax.Array:
    buffers = [self._take_buffer(device) for device in self._bounds]
    if self._sharding is None:
      return buffers[0]
    return jax.make_array_from_single_device_arrays(
      self.shape, self._sharding, buffers
    )

  def _take_buffer(self, device):
    if device in self._buffers:
      return self._buffers.pop(device)
    shape = [most - least for least, most in self._bounds[device]]
    return jnp.zeros(shape, self._dtype, device=device)


# Donated, so that a block is written in place and not into a copy of the leaf.
@functools.partial(jax.jit, donate_argnums=0)
def _write(buffer, part, start):
  return jax.lax.dynamic_update_slice(
    buffer, part.astype(buffer.dtype), tuple(start)
  )


@functools.partial(jax.jit, static_argnames=('shape', 'dtype'))
def _read(leaf, start, *, shape, dtype):
  return jax.lax.dynamic_slice(leaf, tuple(start), shape).astype(dtype)
