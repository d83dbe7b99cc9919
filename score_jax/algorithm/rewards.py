"""Shaped rewards: what each attempt is credited with (Eq. 3, Eq. 4, bonus)."""

import dataclasses

import chex
import jax
import jax.numpy as jnp

from score_jax.algorithm import masked, stage_coefficients


def _progress(
  score: jax.Array, graded: jax.Array, stage: stage_coefficients.Stage
) -> tuple[jax.Array, jax.Array]:
  """Bonus alpha_k * (score_k - score_{k-1}) and where it is known, [B, K]."""
  gain = jnp.diff(score, axis=1, prepend=score[:, :1])
  known = graded & jnp.concatenate([graded[:, :1], graded[:, :-1]], axis=1)
  has_bonus = _bonus_turns(stage)[None, :]
  bonus = jnp.where(known, stage.progress_bonus[None, :] * gain, 0)
  return bonus, known | ~has_bonus


def _bonus_turns(stage: stage_coefficients.Stage) -> jax.Array:
  """Turns with a bonus, bool [K]; never the first."""
  later = jnp.arange(stage.turns) > 0
  return (jnp.asarray(stage.progress_bonus) != 0) & later


def shape_rewards(
  score: jax.Array, graded: jax.Array, stage: stage_coefficients.Stage
) -> tuple[jax.Array, jax.Array]:
  """Rewards of every attempt under a stage's coefficients.

    own_k = w_k * score_k + alpha_k * (score_k - score_{k-1})
    reward_k = own_k + gamma * reward_{k+1}

  With gamma = 0, the paper's value, an attempt gets no credit for later ones,
  so that failing on purpose to earn the bonus does not pay.

  Args:
    score: f32 [B, K], from the reward function; ignored where not graded.
    graded: bool [B, K], false where grading failed.
    stage: coefficients of the same K.

  Returns:
    f32 [B, K] rewards, and bool [B, K] valid: all scores that the reward needs
    are graded (its own, the one before if the turn has a bonus, all later ones
    under a discount). Rewards are 0 where not valid.

  Example:
    >>> score = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> graded = np.full((2, 2), True)
    >>> rewards, valid = sj.shape_rewards(score, graded, sj.stage_two(alpha=10))
    >>> rewards
    Array([[  0.,  11.],
           [  1., -10.]], dtype=float32)
  """
  chex.assert_shape([score, graded], (score.shape[0], stage.turns))
  score = jnp.where(graded, score, 0).astype(jnp.float32)
  bonus, bonus_known = _progress(score, graded, stage)
  own = stage.reward_weight[None, :] * score + bonus
  own_known = graded & bonus_known
  rewards, valid = [own[:, -1]], [own_known[:, -1]]
  for k in reversed(range(stage.turns - 1)):
    rewards.insert(0, own[:, k] + stage.discount * rewards[0])
    valid.insert(0, own_known[:, k] & ((stage.discount == 0) | valid[0]))
  valid = jnp.stack(valid, axis=1)
  return jnp.where(valid, jnp.stack(rewards, axis=1), 0), valid


def kl_rewards(
  logprobs: jax.Array,
  reference_logprobs: jax.Array,
  turn: jax.Array,
  stage: stage_coefficients.Stage,
) -> jax.Array:
  """Each attempt's KL cost as a sampled reward beside that of its score.

    -c_k / s_k * sum over turn k's tokens of (log pi - log pi_ref)

  The form of RLOO (Ahmadian et al., 2024), one turn at a time. In expectation
  its gradient is that of the attempt's whole KL(policy || reference), which the
  exact per-token loss is not (`kl_divergence.exact_kl`), at the price of noise.
  The loss then takes `without_kl(stage)`.

  Its leave-one-out advantage is added to the score's, whatever kind that is.
  Where that is leave-one-out too, this is the baseline of the difference, and
  RLOO. A group-normalised one divides by the standard deviation of scores
  alone: that of scores less KL would scale a group whose scores are equal up to
  its noise. The loss multiplies advantages by s_k (`advantage_scale`), hence
  the division: the weight of the KL is c_k, as in the loss.

  Args:
    logprobs: f32 [B, T], of the policy that sampled.
    reference_logprobs: f32 [B, T], of the same tokens under the reference.
    turn: i32 [B, T].
    stage: coefficients, for K turns.

  Returns:
    f32 [B, K], without derivative.
  """
  chex.assert_equal_shape([logprobs, reference_logprobs, turn])
  ratio = masked.turn_sums(logprobs - reference_logprobs, turn, stage.turns)
  weight = stage.kl_coefficient / stage.advantage_scale
  return jax.lax.stop_gradient(-weight[None, :] * ratio)


def without_kl(stage: stage_coefficients.Stage) -> stage_coefficients.Stage:
  """The stage for a loss whose advantages contain the KL already."""
  zero = jnp.zeros_like(stage.kl_coefficient)
  return dataclasses.replace(stage, kl_coefficient=zero)


def reward_metrics(
  score: jax.Array,
  graded: jax.Array,
  loss_mask: jax.Array,
  stage: stage_coefficients.Stage,
) -> dict[str, masked.SumCount]:
  """(sum, count) of `reward/turn{k}`, `reward/bonus` and `learning_attempts`.

  The bonus is over turns that have one; `learning_attempts` is the share of
  attempts that the policy can learn from.

  Args:
    score, graded, stage: as for `shape_rewards`.
    loss_mask: bool [B, K], attempts that are sampled and graded; of them the
      means are over those whose reward is valid.
  """
  rewards, valid = shape_rewards(score, graded, stage)
  counted = valid & loss_mask
  metrics = {
    f'reward/turn{k + 1}': masked.sum_and_count(rewards[:, k], counted[:, k])
    for k in range(stage.turns)
  }
  score = jnp.where(graded, score, 0).astype(jnp.float32)
  bonus, known = _progress(score, graded, stage)
  with_bonus = known & loss_mask & _bonus_turns(stage)[None, :]
  metrics['reward/bonus'] = masked.sum_and_count(bonus, with_bonus)
  metrics['learning_attempts'] = masked.sum_and_count(
    counted.astype(jnp.float32), jnp.ones_like(counted)
  )
  return metrics
