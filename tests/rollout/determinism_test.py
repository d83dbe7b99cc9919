"""Where tokens may differ between programs, and that they do nowhere else.

Random numbers are equal bit for bit (randomness_test). Tokens are, for the same
program; between programs of other batch sizes or meshes a matrix product may
round differently, and the promise is: in float32 the first difference in a
sequence can only occur where the two best candidates were closer than 1e-3.

How far a token was from a tie is computed in tests/support/promise.py.
"""

import jax
import numpy as np
import pytest

from score_jax.models import inference
from score_jax.rollout import randomness
from score_jax.training import sharding
from tests.support import promise, small_models

pytestmark = pytest.mark.usefixtures('quick_compilation')

_NAME = 'gemma2'
_TEMPERATURE = 0.7
_SEED = 3


def _run(**options):
  return small_models.run(
    _NAME, 2, seed=_SEED, temperature=_TEMPERATURE, **options
  )


def _distance(one, other, uniforms=None):
  return promise.distance(_NAME, one, other, _TEMPERATURE, uniforms)


def _assert_promise(one, other, uniforms=None):
  """Number of equal sequences of two trajectories that keep the promise."""
  return promise.count_equal(_NAME, one, other, _TEMPERATURE, uniforms)


@pytest.fixture(scope='module')
def drawn():
  return _run()


@pytest.fixture(scope='module')
def greedy():
  return _run(greedy=True)


@pytest.fixture(scope='module')
def uniforms(drawn):
  keys = small_models.sequence_keys(_SEED)
  return np.asarray(randomness.uniforms(keys, drawn.tokens.shape[1]))


def test_the_same_program_repeats_itself_bit_for_bit(drawn):
  again = _run()
  for one, other in zip(jax.tree.leaves(drawn), jax.tree.leaves(again)):
    np.testing.assert_array_equal(one, other)


def test_differences_without_a_tie_are_found(drawn, greedy, uniforms):
  """Tokens changed by hand, where nothing was close, break the promise."""
  for trajectory, numbers in ((drawn, uniforms), (greedy, None)):
    turn = np.asarray(trajectory.turn)
    changed = np.where(
      turn == 2, (np.asarray(trajectory.tokens) + 30) % 61, trajectory.tokens
    )
    for i in range(8):
      distance = _distance(
        promise.sequence_of(trajectory, i),
        promise.sequence_of(trajectory.replace(tokens=changed), i),
        None if numbers is None else numbers[i],
      )
      assert distance > 1e-2


def _alone(index, **options):
  """A sequence alone in its batch: one problem, one sample."""
  problem = index // small_models.SAMPLES
  prompts = small_models.prompts(small_models.PROMPT_LENGTHS, 12)
  return _run(
    prompts=jax.tree.map(lambda x: x[problem : problem + 1], prompts),
    sequence_keys=small_models.sequence_keys(_SEED)[index : index + 1],
    samples_per_problem=1,
    given=small_models.no_given_attempts(1, 2),
    **options,
  )


def test_every_sequence_alone(drawn, uniforms):
  equal = 0
  for i in range(8):
    equal += _assert_promise(
      promise.sequence_of(drawn, i), _alone(i), uniforms[i : i + 1]
    )
  assert equal >= 7


def test_every_sequence_alone_greedily(greedy):
  equal = 0
  for i in range(0, 8, 2):
    alone = _alone(i, greedy=True)
    equal += _assert_promise(promise.sequence_of(greedy, i), alone)
  assert equal >= 3


def test_problems_in_another_order(drawn, uniforms):
  order = [2, 0, 3, 1]
  prompts = small_models.prompts(small_models.PROMPT_LENGTHS, 12)
  reordered = _run(
    prompts=jax.tree.map(lambda x: x[np.array(order)], prompts),
    sequence_keys=randomness.sequence_keys(
      randomness.stream(_SEED, 'train', 'stage1', 0),
      [f'p{i}' for i in order],
      small_models.SAMPLES,
    ),
  )
  back = np.argsort(order)
  index = (2 * back[:, None] + np.arange(2)[None]).reshape(-1)
  restored = jax.tree.map(lambda x: np.asarray(x)[index], reordered)
  assert _assert_promise(drawn, restored, uniforms) >= 7


def test_eight_devices(drawn, uniforms):
  # Sequences over data and fsdp, weights and heads over tensor.
  mesh = sharding.make_mesh(jax.devices(), 2, 2, 2)
  config = small_models.CONFIGS[_NAME]
  params = jax.device_put(
    small_models.params(_NAME), sharding.param_shardings(config, mesh)
  )
  placed = sharding.rollout_shardings(config, mesh)
  made = jax.jit(inference.inference_params, out_shardings=placed.params)(
    params
  )
  assert not made['layers']['0']['mlp']['up'].is_fully_replicated
  batch, everywhere = placed.batch, placed.replicated
  trajectory = _run(
    params=made,
    prompts=jax.device_put(
      small_models.prompts(small_models.PROMPT_LENGTHS, 12), batch
    ),
    sequence_keys=jax.device_put(small_models.sequence_keys(_SEED), batch),
    separators=jax.device_put(small_models.separators(2), everywhere),
    given=jax.device_put(small_models.no_given_attempts(8, 2), batch),
  )
  assert len(trajectory.tokens.sharding.device_set) == 8
  assert _assert_promise(drawn, trajectory, uniforms) >= 7
