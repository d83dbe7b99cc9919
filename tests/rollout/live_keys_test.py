"""Decoding that leaves out ended sequences and empty slots, on several devices.

Each device goes on by itself; the episodes are those of the plain loop.
"""

import re

import jax
import numpy as np
import pytest

from score_jax.rollout import engine
from score_jax.training import sharding
from tests.support import compiled_text, small_models

pytestmark = pytest.mark.usefixtures('quick_compilation')

_STATIC = {
  'config',
  'max_new_tokens',
  'samples_per_problem',
  'sharding',
  'segments',
  'compactions',
}


def _assert_same(found, expected):
  for name in ('tokens', 'turn', 'length', 'finished', 'problem_index'):
    np.testing.assert_array_equal(
      getattr(found, name), getattr(expected, name), name
    )
  np.testing.assert_allclose(found.logprobs, expected.logprobs, atol=1e-5)


@pytest.mark.parametrize(
  ('name', 'transposed'), [('gemma1', False), ('gemma3', True)]
)
def test_the_same_episodes_and_nothing_crosses_devices(name, transposed):
  """Two devices with four sequences each; 40 slots in five segments."""
  mesh = sharding.make_mesh(jax.devices()[:2], 1, 2, 1)
  options = {
    'sharding': sharding.batch_sharding(mesh),
    'transposed': transposed,
    'compactions': 1,
    'segments': 5,
  }
  arguments = small_models.arguments(name, 2, temperature=0.7, **options)
  compiled = engine.sample_episodes.lower(**arguments).compile()
  plain = small_models.run(name, 2, temperature=0.7)
  dynamic = small_models.arguments(name, 2, temperature=0.7)
  found = compiled(**{k: v for k, v in dynamic.items() if k not in _STATIC})
  _assert_same(found, plain)
  # Attempts end at different tokens, so that devices are out of step.
  ends = np.asarray(plain.length).reshape(2, 4).max(axis=1)
  assert ends[0] != ends[1]
  assert not _exchanges(compiled)


def test_with_heads_over_a_mesh_axis():
  """Two devices share a copy of the weights; copies exchange nothing."""
  mesh = sharding.make_mesh(jax.devices()[:4], 1, 2, 2)
  arguments = small_models.arguments('gemma2', 2)
  shardings = sharding.rollout_shardings(arguments['config'], mesh)
  arguments['params'] = jax.device_put(arguments['params'], shardings.params)
  by_sequence = ('prompts', 'sequence_keys', 'given')
  arguments |= jax.device_put(
    {name: arguments[name] for name in by_sequence}, shardings.batch
  )
  arguments |= {'sharding': shardings.batch, 'segments': 3, 'compactions': 1}
  compiled = engine.sample_episodes.lower(**arguments).compile()
  found = compiled(**{k: v for k, v in arguments.items() if k not in _STATIC})
  _assert_same(found, small_models.run('gemma2', 2))
  exchanges = _exchanges(compiled)
  assert exchanges
  for i in exchanges:
    assert re.search(r'replica_groups=({{0,1},{2,3}}|\[2,2\]<=\[4\])', i.line)


def _exchanges(compiled):
  """Instructions that send arrays to other devices."""
  return [
    i
    for i in compiled_text.instructions(compiled.as_text())
    if i.opcode.startswith(('all-', 'collective-', 'reduce-scatter'))
  ]
