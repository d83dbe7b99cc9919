"""The engine's log-probabilities are those that the update computes.

The engine feeds tokens one at a time into a cache of rings; the update feeds
whole sequences, without a cache, and chunks the output layer.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.models import inference, lora
from score_jax.rollout import given_attempts
from tests.support import small_models

pytestmark = pytest.mark.usefixtures('quick_compilation')


def _gap(name, trajectory, temperature=1.0, dtype=jnp.float32, params=None):
  """Largest difference at a sampled token, in nats."""
  expected = small_models.teacher_forced(
    small_models.CONFIGS[name],
    small_models.params(name) if params is None else params,
    trajectory,
    temperature,
    dtype,
  )
  return np.abs(expected - trajectory.logprobs).max()


@pytest.mark.parametrize(
  ('name', 'turns'),
  [
    ('gemma1', 2),
    ('gemma2', 1),
    ('gemma2', 2),
    ('gemma3', 3),
  ],
)
def test_equal_in_float32(name, turns):
  # Eight seeds make 64 sequences: enough for attempts that end early and that
  # are cut off in every turn. The second prompt, of 12 tokens, is longer than
  # the windows (6 and 5) and than the rings (window + block - 1 <= 11).
  finished = []
  for seed in range(8):
    trajectory = small_models.run(name, turns, seed=seed, temperature=0.7)
    assert _gap(name, trajectory, 0.7) < 1e-4
    assert float(trajectory.logprobs.min()) < -1.0
    finished.append(np.asarray(trajectory.finished))
  finished = np.concatenate(finished)
  assert finished.any(axis=0).all()
  assert not finished.all(axis=0).any()


def test_the_wrong_temperature_would_be_seen():
  trajectory = small_models.run('gemma2', 2, temperature=0.7)
  assert _gap('gemma2', trajectory, 1.0) > 0.1


@pytest.mark.parametrize(('name', 'turns'), [('gemma2', 2), ('gemma3', 3)])
def test_close_in_bfloat16(name, turns):
  # Decode and update round in another order; a rounding to bfloat16's 8 bits is
  # up to 2^-9 of a value. Measured over these 32 sequences, some 300 tokens
  # each time: 0.04 and 0.08 nats; the bound leaves a factor of two.
  bfloat16 = {'dtype': jnp.bfloat16, 'cache_dtype': jnp.bfloat16}
  gaps = [
    _gap(
      name,
      small_models.run(name, turns, seed=seed, **bfloat16),
      1.0,
      jnp.bfloat16,
    )
    for seed in range(4)
  ]
  assert max(gaps) < 0.16


def test_close_in_products_of_bfloat16():
  # The update rounds float32 weights where the engine reads rounded ones; both
  # round the same activations, but for their last bits. Measured: 0.003 nats.
  config = dataclasses.replace(
    small_models.CONFIGS['gemma2'], operands='bfloat16'
  )
  params = small_models.params('gemma2')
  rounded = inference.inference_params(params, jnp.bfloat16)
  gaps = []
  for seed in range(4):
    trajectory = small_models.run(
      'gemma2', 2, seed=seed, config=config, params=rounded
    )
    expected = small_models.teacher_forced(config, params, trajectory)
    gaps.append(np.abs(expected - trajectory.logprobs).max())
  assert 0 < max(gaps) < 0.01
  # In float32 the same tokens have other log-probabilities.
  assert _gap('gemma2', trajectory) > max(gaps)


def test_a_batch_of_one():
  trajectory = small_models.run(
    'gemma2',
    2,
    prompts=small_models.prompts([12], 12),
    sequence_keys=small_models.sequence_keys(problems=1, samples=1),
    samples_per_problem=1,
    given=small_models.no_given_attempts(1, 2),
  )
  assert trajectory.tokens.shape == (1, 12 + 8 + 5 + 9)
  assert _gap('gemma2', trajectory) < 1e-4


def test_after_given_attempts():
  # Sequence 0 is given its first attempt, 1 its second, 2 both; a given attempt
  # of 3 ends with a stop token, one of 8 is cut off by the limit.
  length = np.zeros((8, 2), np.int32)
  length[0, 0], length[1, 1], length[2] = 3, 8, (8, 3)
  tokens = np.full((8, 2, max(small_models.LIMITS)), 33, np.int32)
  tokens[:, :, 2] = np.where(length == 3, small_models.STOP, 33)
  given = given_attempts.GivenAttempts(jnp.asarray(tokens), jnp.asarray(length))
  trajectory = small_models.run('gemma2', 2, temperature=0.7, given=given)
  assert _gap('gemma2', trajectory, 0.7) < 1e-4
  np.testing.assert_array_equal(trajectory.sampled, length == 0)
  is_given = ~small_models.is_sampled(trajectory)
  assert not np.asarray(trajectory.logprobs)[is_given].any()
  for row, turn, count in ((0, 1, 3), (1, 2, 8), (2, 1, 8), (2, 2, 3)):
    attempt = trajectory.tokens[row][trajectory.turn[row] == turn]
    np.testing.assert_array_equal(attempt, tokens[row, turn - 1, :count])
    assert bool(trajectory.finished[row, turn - 1]) == (count == 3)


def test_after_stop_texts():
  """Sampled and given ones; a given attempt ends at its first stop text, too.

  Sequence 0 is given 'aab' in its 2nd and 3rd token of 5, sequence 1 at the
  end of its attempt, and sequence 2 has none in its 5 tokens.
  """
  a, b, aa, ab, aab = (
    small_models.PIECES.index(text, small_models.OTHER_STOP + 1)
    for text in (b'a', b'b', b'aa', b'ab', b'aab')
  )
  first = [[b, aa, b, a, a], [ab, b, a, ab, b], [b, a, b, a, b]]
  # What is behind a given attempt's length is not read.
  tokens = np.full((8, 2, max(small_models.LIMITS)), aab, np.int32)
  tokens[:3, 0, :5] = first
  length = np.zeros((8, 2), np.int32)
  length[:3, 0] = 5, 4, 5
  made = small_models.run(
    'gemma2',
    2,
    temperature=0.7,
    separators=small_models.with_stop_texts(small_models.separators(2)),
    given=given_attempts.GivenAttempts(
      jnp.asarray(tokens), jnp.asarray(length)
    ),
  )
  assert _gap('gemma2', made, 0.7) < 1e-4
  for row, kept in enumerate((3, 4, 5)):
    attempt = made.tokens[row][made.turn[row] == 1].tolist()
    assert attempt == first[row][:kept]
  assert made.finished[:3, 0].tolist() == [True, True, False]
  # The token that completes a sampled one has a log-probability.
  ended = np.asarray(made.finished[:, 1])
  last = np.asarray(made.logprobs)[np.arange(8), np.asarray(made.length) - 1]
  assert ended.any()
  assert (last[ended] < 0).all()


def test_with_forced_lengths():
  # Zero and 99 are out of [1, limit] and clipped to it.
  forced = np.array(
    [[1, 9], [8, 1], [4, 4], [2, 7], [0, 99], [8, 9], [3, 3], [1, 1]]
  )
  expected = np.array(
    [[1, 9], [8, 1], [4, 4], [2, 7], [1, 9], [8, 9], [3, 3], [1, 1]]
  )
  trajectory = small_models.run(
    'gemma2', 2, temperature=0.7, forced_lengths=jnp.asarray(forced, jnp.int32)
  )
  assert _gap('gemma2', trajectory, 0.7) < 1e-4
  for k in range(2):
    counts = (np.asarray(trajectory.turn) == k + 1).sum(axis=1)
    np.testing.assert_array_equal(counts, expected[:, k])
  assert trajectory.finished.all()
  assert trajectory.sampled.all()


def _with_adapters(name):
  base = small_models.params(name)
  return lora.attach(base, small_models.adapters(base))


@pytest.mark.parametrize(
  ('name', 'turns'), [('gemma1', 2), ('gemma2', 2), ('gemma3', 3)]
)
def test_equal_with_adapters(name, turns):
  # Merged for the engine, attached in the update.
  params = _with_adapters(name)
  trajectory = small_models.run(
    name, turns, temperature=0.7, params=inference.inference_params(params)
  )
  assert _gap(name, trajectory, 0.7, params=params) < 1e-4
  assert float(trajectory.logprobs.min()) < -1.0


def test_close_with_adapters_in_bfloat16():
  # Attached in both. The bound is the one without adapters: measured 0.10 nats.
  params, bfloat16 = _with_adapters('gemma2'), jnp.bfloat16
  trajectory = small_models.run(
    'gemma2',
    2,
    temperature=0.7,
    params=inference.inference_params(params, bfloat16),
    dtype=bfloat16,
    cache_dtype=bfloat16,
  )
  assert _gap('gemma2', trajectory, 0.7, bfloat16, params) < 0.16
  assert float(trajectory.logprobs.min()) < -1.0


def test_inference_params_keep_norm_scales_in_float32():
  # In the stacked tree a norm scale is a matrix [repeats, width].
  made = inference.inference_params(small_models.params('gemma3'), jnp.bfloat16)
  for path, leaf in jax.tree_util.tree_leaves_with_path(made):
    wide = path[-1].key == 'scale'
    assert leaf.dtype == (jnp.float32 if wide else jnp.bfloat16), path
