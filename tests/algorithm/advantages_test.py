"""Baselines by hand, against a double loop, and what must not change them."""

import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.algorithm import advantages

pytestmark = pytest.mark.usefixtures('quick_compilation')


def slow_leave_one_out(rewards, valid, samples):
  """Each valid row less the mean of its problem's other valid rows."""
  result = np.zeros(rewards.shape)
  for b in range(rewards.shape[0]):
    first = b // samples * samples
    for k in range(rewards.shape[1]):
      others = [
        rewards[j, k]
        for j in range(first, first + samples)
        if j != b and valid[j, k]
      ]
      if valid[b, k] and others:
        result[b, k] = rewards[b, k] - np.mean(others)
  return result


def slow_group_normalized(rewards, valid, samples):
  result = np.zeros(rewards.shape)
  for b in range(rewards.shape[0]):
    first = b // samples * samples
    for k in range(rewards.shape[1]):
      group = [
        rewards[j, k] for j in range(first, first + samples) if valid[j, k]
      ]
      if valid[b, k] and len(group) > 1:
        deviation = np.std(group, ddof=0) + 1e-6
        result[b, k] = (rewards[b, k] - np.mean(group)) / deviation
  return result


@pytest.fixture(name='batch')
def fixture_batch():
  rng = np.random.default_rng(0)
  rewards = rng.choice([0.0, 1, 11, -10], (12, 2)).astype(np.float32)
  return rewards, rng.random((12, 2)) < 0.6


def test_leave_one_out_by_hand():
  # Problem 1, turn 1: 1, 0, 0: 1 - 0; 0 - 1/2; 0 - 1/2.
  # Turn 2: 11, -10 and one invalid: 11 + 10; -10 - 11; 0.
  # Problem 2, turn 1: only one valid: 0. Turn 2: all equal: 0.
  rewards = jnp.array([[1.0, 11], [0, -10], [0, 5], [1, 1], [0, 1], [0, 1]])
  valid = jnp.array([[1, 1], [1, 1], [1, 0], [1, 1], [0, 1], [0, 1]], bool)
  np.testing.assert_allclose(
    advantages.leave_one_out(rewards, valid, 3),
    [[1, 21], [-0.5, -21], [-0.5, 0], [0, 0], [0, 0], [0, 0]],
    rtol=1e-6,
  )


def test_group_normalized_by_hand():
  # 1, 0, 0, 0: mean 1/4, std (ddof 0) sqrt(3)/4: sqrt(3) and -1/sqrt(3).
  rewards = jnp.array([[1.0], [0], [0], [0]])
  result = advantages.group_normalized(rewards, jnp.ones((4, 1), bool), 4)
  np.testing.assert_allclose(
    result[:, 0], [3**0.5] + [-(3**-0.5)] * 3, rtol=1e-4
  )


@pytest.mark.parametrize('samples', [2, 3])
def test_spread_against_double_loop(batch, samples):
  # Few values, so that some groups have none.
  rewards, valid = batch[0] > 5, batch[1]
  expected = []
  for b in range(len(rewards)):
    first = b // samples * samples
    turns = [
      {rewards[j, k] for j in range(first, first + samples) if valid[j, k]}
      for k in range(rewards.shape[1])
    ]
    expected.append(any(len(values) > 1 for values in turns))
  # 0.1 is no number of float32, and its mean another one.
  found = advantages.has_spread(
    jnp.where(rewards, 0.3, 0.1), jnp.asarray(valid), samples
  )
  assert found.tolist() == expected
  assert len(set(expected)) == 2


@pytest.mark.parametrize('samples', [2, 3, 4, 12])
@pytest.mark.parametrize(
  ('fast', 'slow'),
  [
    (advantages.leave_one_out, slow_leave_one_out),
    (advantages.group_normalized, slow_group_normalized),
  ],
)
def test_against_double_loop(batch, samples, fast, slow):
  result = fast(*map(jnp.asarray, batch), samples)
  np.testing.assert_allclose(result, slow(*batch, samples), atol=1e-4)


def test_leave_one_out_sums_to_zero(batch):
  rewards, valid = batch
  result = np.asarray(advantages.leave_one_out(rewards, valid, 4))
  np.testing.assert_allclose(result.reshape(3, 4, 2).sum(1), 0, atol=1e-4)


@pytest.mark.parametrize(
  'function', [advantages.leave_one_out, advantages.group_normalized]
)
class TestInvariances:
  def test_a_constant_per_problem_does_not_matter(self, batch, function):
    rewards, valid = batch
    shift = np.repeat(np.float32([8, -4, 64]), 4)[:, None]
    np.testing.assert_allclose(
      function(rewards + shift, valid, 4),
      function(rewards, valid, 4),
      atol=1e-5,
    )

  def test_order_of_samples_and_problems_does_not_matter(self, batch, function):
    rewards, valid = batch
    order = np.concatenate([[9, 8, 11, 10], [1, 3, 0, 2], [4, 7, 6, 5]])
    np.testing.assert_allclose(
      function(rewards[order], valid[order], 4),
      np.asarray(function(rewards, valid, 4))[order],
      atol=1e-5,
    )

  def test_turns_are_apart(self, batch, function):
    rewards, valid = batch
    both = function(rewards, valid, 4)
    second = function(rewards[:, 1:], valid[:, 1:], 4)
    np.testing.assert_array_equal(both[:, 1:], second)

  def test_no_spread_is_exactly_zero(self, function):
    # In f32 the mean of 7, 8 or 12 times 0.1 is not 0.1.
    for samples, rows in ((7, 7), (8, 16), (12, 12)):
      rewards, valid = np.full((2, rows, 1), 0.1, np.float32)
      valid = valid.astype(bool)
      np.testing.assert_array_equal(function(rewards, valid, samples), 0)

  def test_invalid_values_are_not_read(self, batch, function):
    rewards, valid = batch
    poisoned = np.where(valid, rewards, np.nan)
    np.testing.assert_array_equal(
      function(poisoned, valid, 4), function(rewards, valid, 4)
    )

  def test_one_sample_has_no_baseline(self, batch, function):
    np.testing.assert_array_equal(function(*batch, 1), 0)

  def test_broken_groups_are_rejected(self, batch, function):
    with pytest.raises(ValueError, match='12 sequences'):
      function(*batch, 5)
