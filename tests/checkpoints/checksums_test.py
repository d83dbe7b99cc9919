"""Checksums: the definition in a slow loop, every path, every bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.checkpoints import checksums

MASK = 0xFFFFFFFF


def mix(x):
  x ^= x >> 16
  x = x * 0x85EBCA6B & MASK
  x ^= x >> 13
  x = x * 0xC2B2AE35 & MASK
  return x ^ x >> 16


def slow_sums(array):
  """Both sums, element by element, in Python's integers."""
  totals = [0, 0]
  size = array.dtype.itemsize
  for index in np.ndindex(array.shape):
    data = array[index].tobytes()
    words = [data[i : i + 4] for i in range(0, size, 4)]
    for number, word in enumerate(words):
      for i, seed in enumerate((0x9E3779B9, 0x85EBCA6B)):
        place = seed
        for coordinate in (*index, number):
          place = mix(place ^ coordinate)
        totals[i] += mix(int.from_bytes(word, 'little') ^ place)
  return tuple(total & MASK for total in totals)


def sums(array, start=None):
  start = start or (0,) * array.ndim
  return checksums.of_shard(checksums.Shard(array, start)).sums


@pytest.mark.parametrize(
  ('dtype', 'shape'),
  [
    ('float32', (3, 5)),
    ('bfloat16', (2, 3, 4)),
    ('int32', ()),
    ('uint8', (7,)),
    ('bool', (4, 2)),
    ('float64', (2, 3)),
    ('float32', (0, 4)),
  ],
)
def test_both_paths_against_a_loop(dtype, shape, monkeypatch):
  values = np.random.default_rng(0).normal(size=shape) * 3
  array = np.asarray(values).astype(jnp.dtype(dtype))
  expected = slow_sums(array)
  assert sums(array) == expected
  monkeypatch.setattr(checksums, '_COMPILED_FROM', 0)
  assert sums(array) == expected


def test_large_shards_are_summed_on_the_device(monkeypatch):
  array = np.random.default_rng(0).normal(size=(600, 500)).astype(np.float32)
  assert array.size > checksums._COMPILED_FROM
  compiled = sums(array)
  monkeypatch.setattr(checksums, '_COMPILED_FROM', 10**9)
  assert sums(array) == compiled


def test_every_bit_counts_in_both_sums():
  array = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
  before = sums(array)
  for place in range(array.size):
    for bit in range(32):
      flipped = array.copy()
      flipped.reshape(-1).view(np.uint32)[place] ^= np.uint32(1 << bit)
      after = sums(flipped)
      assert after[0] != before[0]
      assert after[1] != before[1]


def test_places_count():
  array = np.arange(6.0, dtype=np.float32).reshape(2, 3)
  others = [array[::-1], array[:, ::-1], array.reshape(3, 2), array.T]
  others.append(np.zeros_like(array))
  assert len({sums(other) for other in (array, *others)}) == 6
  # Nothing is hidden by constant arrays, whose elements could change places.
  ones = np.ones((2, 2), np.float32)
  assert sums(ones) != sums(np.float32([[1, 1], [1, 2]]))


@pytest.mark.parametrize('spec', [('a', 'b'), ('b', None), (None, 'a'), ()])
def test_shards_add_up_on_any_mesh(spec):
  mesh = jax.sharding.Mesh(
    np.array(jax.devices()[:8]).reshape(2, 4), ('a', 'b')
  )
  array = np.random.default_rng(0).normal(size=(8, 12)).astype(np.float32)
  sharded = jax.device_put(
    array, jax.sharding.NamedSharding(mesh, jax.P(*spec))
  )
  shards = list(checksums.own_shards(sharded))
  assert sum(shard.data.size for shard in shards) == array.size
  total = checksums.add_up({'x': checksums.of_array(sharded)})['x']
  assert total.sums == slow_sums(array)
  assert total.text == ''.join(f'{x:08x}' for x in slow_sums(array))


def test_what_is_not_finite_is_counted():
  array = np.float32([[1, np.nan, 2], [np.inf, -np.inf, 0]])
  [part] = checksums.of_array(jnp.asarray(array, jnp.bfloat16))
  assert part.not_finite == 3
  assert checksums.of_array(np.arange(3))[0].not_finite == 0
