"""Checksums of arrays that each host computes from its own shards.

A checksum is a sum, modulo 2^32, of one pseudo-random number an element, which
depends on the element's bits and its place in the array; there are two, of
other seeds. So it adds up over shards: it is the same for any mesh, and no host
reads, gathers or hashes what is not its own. One changed element always changes
both sums, since the mixing function is a bijection of its bits; several changed
ones go unseen once in 2^64. It finds accidents, not forgeries.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from score_jax import distributed

_SEEDS = (0x9E3779B9, 0x85EBCA6B)
# Smaller shards are summed by numpy, which has nothing to compile.
_COMPILED_FROM = 1 << 18


class Shard(NamedTuple):
  """A part of an array.

  Attributes:
    data: numpy array, or jax array on one device.
    start: index of its first element in the whole array.
  """

  data: Any
  start: tuple[int, ...]


class Part(NamedTuple):
  """Sums over a shard, or over all shards of an array.

  Attributes:
    sums: the two sums, each below 2^32.
    not_finite: number of elements that are not finite.
  """

  sums: tuple[int, int]
  not_finite: int

  @property
  def text(self) -> str:
    """The sums as 16 hexadecimal digits."""
    return ''.join(f'{total:08x}' for total in self.sums)


def own_shards(array: Any) -> Iterator[Shard]:
  """The shards of an array that are this process's to sum.

  Over all processes, every element is in exactly one of them. Arrays that each
  process has for itself, in numpy or on its own devices, are the first one's.
  """
  is_jax = isinstance(array, jax.Array)
  is_shared = is_jax and not array.is_fully_addressable
  if not (is_shared or distributed.is_first()):
    return
  if not is_jax:
    yield Shard(np.asarray(array), (0,) * np.ndim(array))
    return
  for shard in array.addressable_shards:
    if shard.replica_id == 0:
      start = tuple(part.start or 0 for part in shard.index)
      yield Shard(shard.data, start)


def of_array(array: Any) -> list[Part]:
  """The parts of an array's own shards. Not a collective."""
  return [of_shard(shard) for shard in own_shards(array)]


def of_shard(shard: Shard) -> Part:
  """Sums over a shard; on its device where it is large. Not a collective."""
  start = np.array(shard.start, np.uint32)
  if shard.data.size < _COMPILED_FROM or shard.data.dtype.itemsize > 4:
    values = _sums(np, np.asarray(shard.data), start)
  else:
    values = _compiled(jnp.asarray(shard.data), start)
  first, second, not_finite = (int(value) for value in values)
  return Part((first, second), not_finite)


def add_up(parts: Mapping[str, Sequence[Part]]) -> dict[str, Part]:
  """Sums over all shards of all processes, by array. Collective.

  Args:
    parts: by array, those of this process's own shards.
  """
  own = {key: _total(values) for key, values in parts.items()}
  gathered = distributed.gather(own)
  return {key: _total([of[key] for of in gathered]) for key in own}


def _total(parts: Sequence[Part]) -> Part:
  sums = (sum(p.sums[i] for p in parts) % 2**32 for i in range(2))
  return Part(tuple(sums), sum(p.not_finite for p in parts))


def _sums(numpy, values, start):
  """The two sums, u32 [], and the number of elements that are not finite.

  Args:
    numpy: numpy or jax.numpy.
    values: array of any dtype; in jax.numpy of at most 32 bits.
    start: u32 [dimensions], place of the first element.
  """
  bits = _bits(numpy, values)
  totals = []
  for seed in _SEEDS:
    place = numpy.full((1,) * bits.ndim, seed, np.uint32)
    for axis, size in enumerate(bits.shape):
      index = numpy.arange(size, dtype=np.uint32)
      if axis < len(start):
        index = index + start[axis]
      shape = [1] * bits.ndim
      shape[axis] = size
      place = _mix(place ^ index.reshape(shape))
    totals.append(numpy.sum(_mix(bits ^ place), dtype=np.uint32))
  # jax's test, since numpy does not count bfloat16 as a floating type.
  if not jnp.issubdtype(values.dtype, jnp.inexact):
    return *totals, 0
  return *totals, numpy.sum(~numpy.isfinite(values))


_compiled = jax.jit(functools.partial(_sums, jnp))


def _bits(numpy, values):
  """The bits of each element, u32 [..., 1], or [..., words of 32 bits]."""
  size = values.dtype.itemsize
  word = np.dtype(f'uint{8 * min(size, 4)}')
  if values.dtype == bool:
    bits = values.astype(word)
  elif numpy is np:
    bits = np.ascontiguousarray(values).reshape(-1).view(word)
  else:
    bits = jax.lax.bitcast_convert_type(values, word)
  return bits.reshape(*values.shape, max(1, size // 4)).astype(np.uint32)


def _mix(x):
  """A bijection of u32 whose output bits each depend on all input bits.

  The finalizer of MurmurHash3 (Appleby, public domain).
  """
  x = x ^ (x >> np.uint32(16))
  x = x * np.uint32(0x85EBCA6B)
  x = x ^ (x >> np.uint32(13))
  x = x * np.uint32(0xC2B2AE35)
  return x ^ (x >> np.uint32(16))
