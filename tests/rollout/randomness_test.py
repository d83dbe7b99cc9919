"""Random numbers are a function of what they are for, bit for bit."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from score_jax.rollout import randomness

pytestmark = pytest.mark.usefixtures('quick_compilation')

_IDS = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']


def _stream(seed=0, purpose='train', stage='stage1', step=0):
  return randomness.stream(seed, purpose, stage, step)


def _bits(ids, samples=2, key=None):
  """Threefry words [N, G, 2] of the sequences' keys."""
  keys = randomness.sequence_keys(
    _stream() if key is None else key, ids, samples
  )
  words = np.asarray(jax.random.key_data(keys))
  return words.reshape(len(ids), samples, 2)


def test_keys_do_not_depend_on_the_rest_of_the_batch():
  whole = _bits(_IDS)
  np.testing.assert_array_equal(_bits(['c', 'f']), whole[[2, 5]])
  np.testing.assert_array_equal(_bits(_IDS[::-1]), whole[::-1])


def test_keys_do_not_depend_on_the_number_of_samples():
  whole = _bits(_IDS, samples=6)
  np.testing.assert_array_equal(_bits(_IDS, samples=2), whole[:, :2])


def test_a_problem_that_occurs_twice_gets_other_numbers():
  once, twice = _bits(['a', 'b']), _bits(['a', 'b', 'a'])
  np.testing.assert_array_equal(twice[:2], once)
  assert (twice[2] != once[0]).any(axis=-1).all()
  assert randomness.occurrences(['a', 'b', 'a', 'a', 'b']).tolist() == (
    [0, 0, 1, 2, 1]
  )


def test_all_keys_differ():
  streams = [
    _stream(),
    _stream(seed=1),
    _stream(purpose='evaluate'),
    _stream(stage='stage2'),
    _stream(step=1),
  ]
  words = np.concatenate(
    [_bits(_IDS * 2, samples=4, key=key).reshape(-1, 2) for key in streams]
  )
  assert len(np.unique(words, axis=0)) == 5 * 16 * 4


def test_name_hash_is_the_same_in_every_process():
  # crc32 of the check string of the CRC catalogue, unlike Python's salted hash.
  assert randomness.name_hash('123456789') == 0xCBF43926


def test_unknown_purposes_are_rejected():
  with pytest.raises(ValueError, match='gambling'):
    _stream(purpose='gambling')


def test_uniforms_depend_on_sequence_and_position_only():
  keys = randomness.sequence_keys(_stream(), _IDS, 2)
  whole = np.asarray(randomness.uniforms(keys, 40))
  assert whole.shape == (16, 40)
  assert (whole >= 0).all()
  assert (whole < 1).all()
  assert len(np.unique(whole)) > 635  # of 640 numbers of 23 bits
  np.testing.assert_array_equal(
    randomness.uniforms(keys[5:7], 33), whole[5:7, :33]
  )
  np.testing.assert_array_equal(
    jax.jit(randomness.uniforms, static_argnums=1)(keys, 40), whole
  )
  # Written out for one sequence and position.
  key = _stream()
  for part in (randomness.name_hash('b'), 0, 1):
    key = jax.random.fold_in(key, part)
  expected = jax.random.uniform(jax.random.fold_in(key, 17))
  assert float(expected) == float(whole[3, 17])


@pytest.mark.parametrize('devices', [2, 8])
def test_uniforms_do_not_depend_on_the_mesh(devices):
  keys = randomness.sequence_keys(_stream(), _IDS, 2)
  mesh = jax.make_mesh(
    (devices,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  spread = jax.device_put(keys, NamedSharding(mesh, P('data')))
  there = jax.jit(randomness.uniforms, static_argnums=1)(spread, 40)
  assert len(there.sharding.device_set) == devices
  np.testing.assert_array_equal(there, randomness.uniforms(keys, 40))


def test_uniforms_fill_the_unit_interval_evenly():
  # 64,000 numbers in 16 bins: 4,000 a bin with a deviation of 61; 6 deviations.
  keys = randomness.sequence_keys(_stream(), [str(i) for i in range(160)], 4)
  numbers = np.asarray(randomness.uniforms(keys, 100)).ravel()
  counts, _ = np.histogram(numbers, bins=16, range=(0, 1))
  assert np.abs(counts - 4000).max() < 6 * 61
  assert jnp.float32 == numbers.dtype
