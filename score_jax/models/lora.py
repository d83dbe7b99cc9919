"""Low-rank adapters of the projections (LoRA, arXiv:2106.09685).

    y = x @ (W + alpha / rank * A @ B)

W is frozen; A is drawn at random and B starts at zero, so that a policy starts
as exactly its base. Adapters are a tree of their own, with the base's paths and
stacking. Attached to the base they make a parameter tree that every function of
parameters takes; detached, the tree is the base, so that policy and reference
share one copy of the weights.
"""

from collections.abc import Callable, Sequence
import functools
import math
from typing import Any
import zlib

from flax import struct
import jax
import jax.numpy as jnp

ATTENTION = ('q', 'k', 'v', 'o')
MLP = ('gate', 'up', 'down')
TARGETS = (*ATTENTION, *MLP)


@struct.dataclass
class Adapter:
  """Low-rank update of a projection [..., in, out]: scale * a @ b.

  Attributes:
    a: f32 [..., in, rank].
    b: f32 [..., rank, out].
    scale: alpha / rank.
  """

  a: jax.Array
  b: jax.Array
  scale: float = struct.field(pytree_node=False, default=1.0)


@struct.dataclass
class Adapted:
  """A projection with its adapter; replaces the weight in a parameter tree.

  Attributes:
    weight: [..., in, out]; must be the first leaf, since linen compares its
      shape with the module's.
    adapter: of this weight.
  """

  weight: Any
  adapter: Adapter


def init_adapters(
  params: Any,
  key: jax.Array,
  *,
  rank: int,
  alpha: float = 16.0,
  targets: Sequence[str] = TARGETS,
) -> Any:
  """Draws adapters: A with variance 1 / in, B zero, both float32.

  A projection's draw depends only on the key and on its path.

  Args:
    params: the base, of arrays or of shapes.
    key: for A.
    rank: of the products A @ B.
    alpha: sets the adapters' scale, alpha / rank.
    targets: names of the projections that get adapters, of `TARGETS`.

  Returns:
    The base's nested dicts, with an `Adapter` for each target and no other
    leaves.

  Raises:
    ValueError: invalid rank, alpha or targets.
  """
  _check(rank, alpha, targets)
  adapters = {}
  for path, weight in _projections(base_of(params)):
    if path[-1] not in targets:
      continue
    *stack, size_in, size_out = weight.shape
    if rank > min(size_in, size_out):
      raise ValueError(
        f'rank={rank} is more than {path[-1]!r} has, which is {size_in} x '
        f'{size_out}: choose at most {min(size_in, size_out)}, or leave '
        f'{path[-1]!r} out of targets'
      )
    # Not split by order: other targets leave this projection's draw as it is.
    own_key = jax.random.fold_in(key, zlib.crc32('/'.join(path).encode()))
    a = jax.random.normal(own_key, (*stack, size_in, rank)) / math.sqrt(size_in)
    b = jnp.zeros((*stack, rank, size_out), jnp.float32)
    _put(adapters, path, Adapter(a, b, alpha / rank))
  return adapters


def attach(params: Any, adapters: Any) -> Any:
  """Attaches adapters to parameters, replacing any attached before.

  No weight is copied: the result holds the same arrays.

  Raises:
    ValueError: the adapters are another model's.
  """
  base = base_of(params)
  known = dict(_projections(base))
  for path, adapter in _adapters(adapters):
    shape = (*adapter.a.shape[:-1], adapter.b.shape[-1])
    has = known[path].shape if path in known else 'nothing'
    if has != shape:
      raise ValueError(
        f'adapter {"/".join(path)} is for a weight of shape {shape}, where the '
        f'model has {has}: these adapters belong to another base'
      )
  return join(base, adapters)


def join(base: Any, adapters: Any) -> Any:
  """Does what `attach` does, unchecked, for any leaves, such as shardings."""
  found = dict(_adapters(adapters))

  def adapted(path, leaf):
    adapter = found.get(_names(path))
    return leaf if adapter is None else Adapted(leaf, adapter)

  return jax.tree.map_with_path(adapted, base)


def base_of(params: Any) -> Any:
  """Returns the parameters without adapters."""
  return _map_adapted(lambda adapted: adapted.weight, params)


def adapters_of(params: Any) -> Any:
  """Returns the adapters of an attached tree, as from `init_adapters`."""
  adapters = {}
  leaves = jax.tree_util.tree_leaves_with_path(params, is_leaf=_is_adapted)
  for path, leaf in leaves:
    if _is_adapted(leaf):
      _put(adapters, _names(path), leaf.adapter)
  return adapters


def merge(params: Any, dtype: Any = None) -> Any:
  """Replaces each adapted weight by W + scale * A @ B, computed in float32.

  Args:
    params: with or without adapters; other leaves are returned unchanged.
    dtype: of the merged weights; None: that of each W.
  """
  return _map_adapted(lambda adapted: _merged(adapted, dtype), params)


def complete(params: Any, frozen: Any) -> Any:
  """Returns the parameters of a policy from its trained part.

  Args:
    params: trained parameters: all of them, or adapters.
    frozen: the base of the adapters; adapters attached to it are replaced.
      Unused if all parameters are trained.

  Returns:
    `params` themselves, or `frozen` with these adapters attached.
  """
  return attach(frozen, params) if is_adapters(params) else params


def is_adapters(tree: Any) -> bool:
  """Whether every leaf of a tree is an `Adapter`, as from `init_adapters`."""
  leaves = jax.tree.leaves(tree, is_leaf=_is_adapter)
  return bool(leaves) and all(map(_is_adapter, leaves))


def logical_axes(axes: Any, tree: Any) -> Any:
  """Returns logical axis names of adapters, or of parameters with adapters.

  A's input axis and B's output axis have the base's names; the rank has none.

  Args:
    axes: of the base, from `transformer.logical_axes`.
    tree: adapters, or parameters with or without them, of arrays or of shapes.

  Returns:
    The tree, with a tuple of names instead of each array.
  """
  names_of = {
    _names(path): names
    for path, names in jax.tree_util.tree_leaves_with_path(
      axes, is_leaf=lambda leaf: isinstance(leaf, tuple)
    )
  }

  def of_adapter(adapter, names):
    *stack, axis_in, axis_out = names
    return adapter.replace(
      a=(*stack, axis_in, None), b=(*stack, None, axis_out)
    )

  def named(path, leaf):
    names = names_of[_names(path)]
    if _is_adapter(leaf):
      return of_adapter(leaf, names)
    if _is_adapted(leaf):
      return Adapted(names, of_adapter(leaf.adapter, names))
    return names

  return jax.tree.map_with_path(
    named, tree, is_leaf=lambda leaf: _is_adapter(leaf) or _is_adapted(leaf)
  )


@functools.partial(jax.jit, static_argnames='dtype')
def _merged(adapted: Adapted, dtype: Any) -> jax.Array:
  """Merges one weight; compiled, so that intermediates are never stored."""
  weight, adapter = adapted.weight, adapted.adapter
  product = adapter.a.astype(jnp.float32) @ adapter.b.astype(jnp.float32)
  whole = weight.astype(jnp.float32) + adapter.scale * product
  return whole.astype(dtype or weight.dtype)


def _check(rank: int, alpha: float, targets: Sequence[str]) -> None:
  if rank < 1:
    raise ValueError(f'rank={rank}: must be at least 1')
  if not 0 < alpha < math.inf:
    raise ValueError(f'alpha={alpha}: choose a positive number, such as 16')
  unknown = [name for name in targets if name not in TARGETS]
  if unknown or not targets:
    raise ValueError(
      f'targets={tuple(targets)}: choose one or more of {", ".join(TARGETS)}'
    )


def _projections(base: Any) -> list[tuple[tuple[str, ...], Any]]:
  """Path and weight of each projection that may have an adapter."""
  leaves = jax.tree_util.tree_leaves_with_path(base)
  named = [(_names(path), leaf) for path, leaf in leaves]
  return [(path, leaf) for path, leaf in named if path[-1] in TARGETS]


def _adapters(adapters: Any) -> list[tuple[tuple[str, ...], Adapter]]:
  leaves = jax.tree_util.tree_leaves_with_path(adapters, is_leaf=_is_adapter)
  return [(_names(path), leaf) for path, leaf in leaves]


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
  """A leaf's path in nested dicts."""
  return tuple(entry.key for entry in path)


def _put(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
  for name in path[:-1]:
    tree = tree.setdefault(name, {})
  tree[path[-1]] = value


def _map_adapted(function: Callable[[Adapted], Any], params: Any) -> Any:
  return jax.tree.map(
    lambda leaf: function(leaf) if _is_adapted(leaf) else leaf,
    params,
    is_leaf=_is_adapted,
  )


def _is_adapted(leaf: Any) -> bool:
  return isinstance(leaf, Adapted)


def _is_adapter(leaf: Any) -> bool:
  return isinstance(leaf, Adapter)
