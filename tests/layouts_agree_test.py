"""Two processes of two devices each make the numbers of one device.

Random numbers bit for bit; tokens but for ties (support/promise.py); gradients
and parameters after several updates of both stages to rounding. One process of
several devices is in determinism_test.py and sharding_test.py.
"""

import os

import jax
import numpy as np
import pytest

from score_jax import arrays
from tests.support import one_layout, process_group, promise

# Programs of their own, most of a minute.
pytestmark = [
  pytest.mark.slow,
  pytest.mark.usefixtures('quick_compilation'),
]

FIELDS = ('tokens', 'turn', 'sampled', 'logprobs', 'length', 'finished',
          'problem_index')  # fmt: skip
# Absolute and relative. The largest gradients are of order 1; sums over
# sequences and devices, taken in another order, differ by 2e-6.
GRADIENT = 2e-5
# Adam divides by the gradient's size, so that what is lost in the smallest
# gradients shows: of 7,000 parameters one differs by 7e-5, the others by 2e-6.
# Six updates could move one by 6e-3.
PARAMETERS = 3e-4


@pytest.fixture(scope='module')
def recorded():
  """A step's sequences, as the single device samples them."""
  places = one_layout.make_layout(jax.devices()[:1])
  params = jax.device_put(
    one_layout.small_models.params(one_layout.NAME), places.update.params
  )
  found = one_layout.episodes(places, params)
  return {name: found[f'episodes/{name}'] for name in FIELDS}


@pytest.fixture(scope='module')
def one_device(recorded):
  return one_layout.compute(jax.devices()[:1], recorded)


@pytest.fixture(scope='module')
def two_processes(recorded, tmp_path_factory):
  directory = tmp_path_factory.mktemp('layouts')
  source, output = directory / 'recorded.npz', directory / 'found.npz'
  np.savez(source, **recorded)
  process_group.run(
    '-m', 'tests.support.one_layout', str(source), str(output),
    environment=os.environ | {'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'},
  )  # fmt: skip
  with np.load(output) as found:
    return dict(found)


def test_random_numbers_bit_for_bit(one_device, two_processes):
  one, other = one_device, two_processes
  assert one['uniforms'].shape == (8, 34)
  np.testing.assert_array_equal(one['uniforms'], other['uniforms'])


def test_tokens_of_the_first_step(one_device, two_processes):
  one, other = (
    arrays.Trajectory(**{name: found[f'episodes/{name}'] for name in FIELDS})
    for found in (one_device, two_processes)
  )
  equal = promise.count_equal(
    one_layout.NAME, one, other, one_layout.TEMPERATURE, one_device['uniforms']
  )
  assert equal >= 7
  # Merged from what each process read of its own sequences.
  for found in (one_device, two_processes):
    np.testing.assert_array_equal(found['lengths'], found['episodes/length'])


@pytest.mark.parametrize('stage', ['stage1', 'stage2'])
def test_gradients_and_parameters(one_device, two_processes, stage):
  one, other = one_device, two_processes
  names = [name for name in one if name.startswith(stage)]
  assert len(names) == 2 * 11
  largest = 0.0
  for name in names:
    tolerance = GRADIENT if 'gradient' in name else PARAMETERS
    np.testing.assert_allclose(
      other[name], one[name], rtol=tolerance, atol=tolerance, err_msg=name
    )
    if 'gradient' in name:
      largest = max(largest, float(np.abs(one[name]).max()))
  # There was something to compare.
  assert largest > 0.1
