"""What the bonus does to the objective, by enumeration of all groups of two.

A policy of two turns, each one token of two, of which 1 is right: a logit for
turn 1, one for turn 2 after a wrong first attempt, one after a right one. All
sixteen pairs of its four episodes can be written down, so that the expected
gradient of the loss with a leave-one-out baseline is exact.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.algorithm import (
  ablations,
  advantages,
  losses,
  rewards,
  stage_coefficients,
)

pytestmark = pytest.mark.usefixtures('quick_compilation')

# Right with 1/4 at first; with 1/2 after a wrong, 3/4 after a right attempt.
POLICY = jnp.log(jnp.array([1 / 3, 1.0, 3.0]))
EPISODES = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
PAIRS = np.array([[i, j] for i in range(4) for j in range(4)])  # [16, 2]
TURN = jnp.array([[1, 2], [1, 2]])
TRUE = jnp.ones((2, 2), bool)

stage_two = functools.partial(stage_coefficients.stage_two, beta1=0.0)
MULTI_TURN = ablations.multi_turn(beta1=0.0)


def logprobs_of(policy, tokens):
  """Of the tokens of episodes [..., 2]."""
  first = tokens[..., 0]
  logits = jnp.stack(
    [jnp.broadcast_to(policy[0], first.shape), policy[1 + first]], axis=-1
  )
  return jax.nn.log_sigmoid(jnp.where(tokens == 1, logits, -logits))


@jax.jit
def moments(stage):
  """Mean and mean square of minus the loss's gradient, over all groups."""

  def loss(policy, tokens):
    reward, valid = rewards.shape_rewards(tokens.astype(float), TRUE, stage)
    return losses.score_loss(
      logprobs_of(policy, tokens),
      jnp.zeros((2, 2)),
      advantages.leave_one_out(reward, valid, 2),
      TURN,
      TRUE,
      stage,
    )[0]

  groups = jnp.asarray(EPISODES[PAIRS])  # [16, 2, 2]
  weights = jnp.exp(logprobs_of(POLICY, groups).sum(axis=(1, 2)))
  slopes = -jax.vmap(jax.grad(loss), (None, 0))(POLICY, groups)
  return weights @ slopes, weights @ slopes**2


# d E[r_1] = p (1 - p) with p = 1/4; d E[r_2] after a wrong first attempt 3/4 *
# 1/2 * 1/2, after a right one 1/4 * 3/4 * 1/4.
PLAIN = [3 / 16, 3 / 16, 3 / 64]


def test_the_bonus_multiplies_turn_two_by_one_plus_alpha():
  mean, _ = moments(stage_two(alpha=10.0))
  np.testing.assert_allclose(
    mean, [PLAIN[0], 11 * PLAIN[1], 11 * PLAIN[2]], rtol=1e-5
  )


@pytest.mark.parametrize(
  'stage',
  [
    stage_two(alpha=10.0, normalize_bonus=True),
    stage_two(alpha=0.0),
    stage_two(alpha=0.0, normalize_bonus=True),
    MULTI_TURN,
  ],
)
def test_normalised_it_is_multi_turn_rl_in_expectation(stage):
  mean, _ = moments(stage)
  np.testing.assert_allclose(mean, PLAIN, rtol=1e-5)


def test_what_is_left_of_it_is_variance():
  _, plain = moments(MULTI_TURN)
  _, normalised = moments(stage_two(alpha=10.0, normalize_bonus=True))
  assert float(normalised[0]) == pytest.approx(float(plain[0]), rel=1e-5)
  assert abs(float(normalised[1] / plain[1]) - 1) > 0.1


def test_with_a_discount_it_is_not():
  # gamma = 1: turn 1 is paid for r_2 + 10 (r_2 - r_1) too, whose mean is
  # 1/2 * 11 after a wrong first attempt and 3/4 * 11 - 10 after a right one.
  mean, _ = moments(stage_two(alpha=10.0, normalize_bonus=True, discount=1.0))
  gain = 1 + (0.75 * 11 - 10) - 0.5 * 11
  np.testing.assert_allclose(mean, [3 / 16 * gain, *PLAIN[1:]], rtol=1e-5)
