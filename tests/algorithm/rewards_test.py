"""Shaped rewards by hand, with failed grades, and under a discount."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.algorithm import ablations, masked, rewards, stage_coefficients

pytestmark = pytest.mark.usefixtures('quick_compilation')

PAIRS = jnp.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
GRADED = jnp.ones((4, 2), bool)
DISCOUNTED = stage_coefficients.stage_two(alpha=1.0, discount=0.8)


@pytest.mark.parametrize(
  ('stage', 'expected'),
  [
    # Turn 1: r1. Turn 2: r2 + 10 * (r2 - r1).
    (stage_coefficients.stage_two(), [[0, 0], [0, 11], [1, -10], [1, 1]]),
    # Only the second attempt is rewarded.
    (stage_coefficients.stage_one(), [[0, 0], [0, 1], [0, 0], [0, 1]]),
    (stage_coefficients.stage_two(alpha=0.0), [[0, 0], [0, 1], [1, 0], [1, 1]]),
    (ablations.single_turn(turns=2), [[0, 0], [0, 0], [1, 0], [1, 0]]),
    # alpha = 1, gamma = 0.8: turn 2 is 0, 2, -1, 1; turn 1 adds 0.8 of it:
    # failing first (1.6) then pays nearly what being right twice does (1.8).
    (
      DISCOUNTED,
      [[0, 0], [1.6, 2], [0.2, -1], [1.8, 1]],
    ),
  ],
)
def test_by_hand(stage, expected):
  reward, valid = rewards.shape_rewards(PAIRS, GRADED, stage)
  np.testing.assert_allclose(reward, expected, atol=1e-6)
  assert reward.dtype == jnp.float32
  assert bool(valid.all())


def test_three_turns_by_hand():
  # Stage II, scores 1, 0, 1: 1; 0 + 10 * (0 - 1); 1 + 10 * (1 - 0).
  score, graded = jnp.array([[1.0, 0, 1]]), jnp.ones((1, 3), bool)
  reward, _ = rewards.shape_rewards(
    score, graded, stage_coefficients.stage_two(turns=3)
  )
  np.testing.assert_array_equal(reward, [[1, -10, 11]])


def test_scores_need_not_be_zero_or_one():
  # 0.75 + 10 * (0.75 - 0.25) = 5.75.
  reward, _ = rewards.shape_rewards(
    jnp.array([[0.25, 0.75]]), GRADED[:1], stage_coefficients.stage_two()
  )
  np.testing.assert_allclose(reward, [[0.25, 5.75]])


@pytest.mark.parametrize(
  ('stage', 'graded', 'expected'),
  [
    # The bonus needs the grade before it; without a bonus, or for the turn
    # before, it is not needed.
    (stage_coefficients.stage_two(), [False, True], [False, False]),
    (stage_coefficients.stage_two(), [True, False], [True, False]),
    (stage_coefficients.stage_one(), [False, True], [False, True]),
    (stage_coefficients.stage_two(alpha=0.0), [False, True], [False, True]),
    # A return needs the grades of all that is in it.
    (
      DISCOUNTED,
      [True, False],
      [False, False],
    ),
    (
      stage_coefficients.stage_two(turns=3),
      [True, False, True],
      [True, False, False],
    ),
    (
      stage_coefficients.stage_two(turns=3),
      [False, True, True],
      [False, False, True],
    ),
    (ablations.multi_turn(turns=3), [True, False, True], [True, False, True]),
  ],
)
def test_validity(stage, graded, expected):
  # What a failed grade left behind must not matter.
  score = jnp.where(jnp.array([graded]), 1.0, jnp.nan)
  reward, valid = rewards.shape_rewards(score, jnp.array([graded]), stage)
  np.testing.assert_array_equal(valid, [expected])
  assert np.isfinite(reward).all()
  np.testing.assert_array_equal(np.asarray(reward)[~np.asarray(valid)], 0)


def slow_rewards(score, graded, weight, bonus, gamma):
  """The definition, row by row and turn by turn."""
  rows, turns = score.shape
  reward, valid = np.zeros((rows, turns)), np.zeros((rows, turns), bool)
  for b, k in itertools.product(range(rows), range(turns)):
    needed, total = set(), 0.0
    for j in range(k, turns):
      if j > k and gamma == 0:
        break
      own = weight[j] * score[b, j]
      needed.add(j)
      if j > 0 and bonus[j] != 0:
        own += bonus[j] * (score[b, j] - score[b, j - 1])
        needed.add(j - 1)
      total += gamma ** (j - k) * own
    valid[b, k] = all(graded[b, j] for j in needed)
    reward[b, k] = total if valid[b, k] else 0.0
  return reward, valid


@pytest.mark.parametrize('gamma', [0.0, 0.8, 1.0])
@pytest.mark.parametrize('turns', [1, 2, 4])
def test_against_double_loop(gamma, turns):
  rng = np.random.default_rng(turns)
  score = rng.random((32, turns)).astype(np.float32)
  graded = rng.random((32, turns)) < 0.7
  weight = rng.random(turns)
  bonus = np.where(rng.random(turns) < 0.6, 5.0, 0.0)
  stage = stage_coefficients.make_stage(
    weight, bonus, [0.0] * turns, discount=gamma
  )
  reward, valid = rewards.shape_rewards(score, graded, stage)
  slow_reward, slow_valid = slow_rewards(score, graded, weight, bonus, gamma)
  np.testing.assert_array_equal(valid, slow_valid)
  np.testing.assert_allclose(reward, slow_reward, rtol=1e-5, atol=1e-5)


def test_kl_rewards_by_hand():
  # Turn 1: 0.11 * ((-1 + 2) + (-1 + 1.5)) = 0.165; turn 2: 0.01 * (-3 + 1)
  # = -0.02. What stands at given tokens (log-ratio 7) is not counted.
  turn = jnp.array([[0, 1, 1, 0, 2]])
  logprobs = jnp.array([[0.0, -1, -1, 0, -3]])
  reference = jnp.array([[-7.0, -2, -1.5, -7, -1]])
  reward = rewards.kl_rewards(
    logprobs, reference, turn, stage_coefficients.stage_one()
  )
  np.testing.assert_allclose(reward, [[-0.165, 0.02]], rtol=1e-6)
  # c = 0.01, and 11 times that where the loss divides by 1 + alpha = 11:
  # -0.01 * 1.5; -0.11 * (-2).
  scaled = stage_coefficients.stage_two(normalize_bonus=True)
  reward = rewards.kl_rewards(logprobs, reference, turn, scaled)
  np.testing.assert_allclose(reward, [[-0.015, 0.22]], rtol=1e-6)


def test_without_kl_changes_nothing_else():
  stage = stage_coefficients.stage_two(normalize_bonus=True)
  bare = rewards.without_kl(stage)
  np.testing.assert_array_equal(bare.kl_coefficient, [0, 0])
  np.testing.assert_array_equal(bare.advantage_scale, stage.advantage_scale)
  np.testing.assert_array_equal(bare.progress_bonus, stage.progress_bonus)


def test_metrics_by_hand():
  # Stage II rewards: turn 1: 0, 0, 1 and one not graded; turn 2: 0, 11, -10
  # and one without its first grade. Bonus: 0, 10, -10.
  graded = GRADED.at[3, 0].set(False)
  metrics = masked.means(
    rewards.reward_metrics(
      PAIRS, graded, graded, stage_coefficients.stage_two()
    )
  )
  assert metrics == pytest.approx(
    {
      'reward/turn1': 1 / 3,
      'reward/turn2': 1 / 3,
      'reward/bonus': 0.0,
      'learning_attempts': 6 / 8,
    }
  )
  # A stage without bonus has no mean of it.
  metrics = masked.means(
    rewards.reward_metrics(
      PAIRS, GRADED, GRADED, stage_coefficients.stage_one()
    )
  )
  assert metrics == {
    'reward/turn1': 0.0,
    'reward/turn2': 0.5,
    'learning_attempts': 1.0,
  }


def test_metrics_leave_out_given_attempts():
  # The first attempts of the last two rows are given: turn 1 has 0 and 0; turn
  # 2 has all of 0, 11, -10, 1, with the gain over attempts that were given.
  sampled = GRADED.at[2:, 0].set(False)
  metrics = rewards.reward_metrics(
    PAIRS, GRADED, sampled, stage_coefficients.stage_two()
  )
  assert masked.means(metrics) == pytest.approx(
    {
      'reward/turn1': 0.0,
      'reward/turn2': 0.5,
      'reward/bonus': 0.0,
      'learning_attempts': 6 / 8,
    }
  )
  assert int(metrics['reward/turn1'][1]) == 2
  assert int(metrics['reward/bonus'][1]) == 4
