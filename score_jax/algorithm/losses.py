"""The loss of every stage (Eq. 2, 3 and 4).

B sequences of T tokens, K turns, V vocabulary. Everything indexed by t
describes token t: its distribution is conditioned on the tokens before it.
"""

import chex
import jax
import jax.numpy as jnp

from score_jax.algorithm import masked, stage_coefficients


def score_loss(
  logprobs: jax.Array,
  kl: jax.Array,
  advantages: jax.Array,
  turn: jax.Array,
  sampled: jax.Array,
  stage: stage_coefficients.Stage,
  *,
  num_sequences: int | None = None,
  entropy: jax.Array | None = None,
  weights: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, masked.SumCount]]:
  """REINFORCE with a baseline and a KL penalty, every attempt on its own.

    L = 1/B * sum_{sequences, k} [ -A_k * s_k * sum_{t in k} w_t log pi_t
                                   + c_k * sum_{t in k} KL_t ]

  Minus Eq. 2, 3 or 4, by the stage's coefficients. The mean is over all
  sequences, with and without gradient; tokens outside sampled attempts have
  none.

  Args:
    logprobs: f32 [B, T], of the policy.
    kl: f32 [B, T], of `algorithm.kl_divergence`; metrics only where c_k is 0.
    advantages: f32 [B, K]; not differentiated.
    turn: i32 [B, T], attempt of each token, 0 for given tokens.
    sampled: bool [B, K], the loss mask: attempts that the policy sampled and
      whose grading did not fail.
    stage: gives s_k (`advantage_scale`) and c_k (`kl_coefficient`).
    num_sequences: B of the whole batch where the arrays are one micro-batch of
      it; the micro-batches' losses and gradients then add up to the whole's.
    entropy: f32 [B, T], for metrics only.
    weights: f32 [B, T], w_t of `algorithm.importance`, where another policy
      than this one sampled; not differentiated. None: 1.

  Returns:
    The loss, f32 [], and (sum, count) pairs: per sampled attempt `kl/turn{k}`
    (nats), `policy_loss/turn{k}`, `advantage_magnitude/turn{k}` (|s_k * A_k|)
    and `length/turn{k}` (tokens); per token `entropy/turn{k}` (nats).

  Example:
    >>> loss, metrics = sj.score_loss(
    ...   logprobs=np.array([[-1.0, -3.0]]), kl=np.zeros((1, 2)),
    ...   advantages=np.array([[1.0, -1.0]]), turn=np.array([[1, 2]]),
    ...   sampled=np.ones((1, 2), bool), stage=sj.stage_two())
    >>> float(loss)  # 1 * 1 - 1 * 3
    -2.0
  """
  chex.assert_equal_shape([logprobs, kl, turn])
  chex.assert_shape([advantages, sampled], (turn.shape[0], stage.turns))
  advantages = jax.lax.stop_gradient(advantages) * stage.advantage_scale[None]
  attempt_kl = masked.turn_sums(kl, turn, stage.turns)
  if weights is not None:
    logprobs = jax.lax.stop_gradient(weights) * logprobs
  policy_loss = -advantages * masked.turn_sums(logprobs, turn, stage.turns)
  attempt_loss = policy_loss + stage.kl_coefficient[None] * attempt_kl
  if num_sequences is None:
    num_sequences = turn.shape[0]
  loss = jnp.where(sampled, attempt_loss, 0).sum() / num_sequences

  per_attempt = {
    'kl': attempt_kl,
    'policy_loss': policy_loss,
    'advantage_magnitude': jnp.abs(advantages),
    'length': masked.turn_lengths(turn, stage.turns),
  }
  metrics = {
    f'{name}/turn{k + 1}': masked.sum_and_count(values[:, k], sampled[:, k])
    for name, values in per_attempt.items()
    for k in range(stage.turns)
  }
  if entropy is not None:
    chex.assert_equal_shape([entropy, turn])
    metrics |= {
      f'entropy/turn{k + 1}': masked.sum_and_count(
        entropy, (turn == k + 1) & sampled[:, k, None]
      )
      for k in range(stage.turns)
    }
  return loss, jax.lax.stop_gradient(metrics)
