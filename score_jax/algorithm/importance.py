"""Truncated importance weights: updates on what an earlier policy sampled."""

import chex
import jax
import jax.numpy as jnp

from score_jax.algorithm import masked


def truncated_weights(
  logprobs: jax.Array,
  sampler_logprobs: jax.Array,
  sampled: jax.Array,
  cap: float,
) -> jax.Array:
  """Weight of each sampled token in the policy gradient.

    w_t = min(pi(t) / pi_old(t), cap)

  Espeholt et al., 2018 (IMPALA, arXiv:1802.01561), section 4.1; Yao et al.,
  2025 (truncated importance sampling, 'TIS'), whose `cap` is 2. pi_old is the
  policy that sampled. The cap bounds the variance, for a bias against tokens
  that the policy has come to like much better. That the prefixes, too, are the
  earlier policy's is not corrected, as in PPO.

  Args:
    logprobs: f32 [B, T], of the policy.
    sampler_logprobs: f32 [B, T], of the same tokens under the policy that
      sampled.
    sampled: bool [B, T], tokens that it sampled.
    cap: at least 1.

  Returns:
    f32 [B, T], without derivative; 1 where nothing was sampled.
  """
  chex.assert_equal_shape([logprobs, sampler_logprobs, sampled])
  ratio = jnp.exp(logprobs - sampler_logprobs)
  weights = jnp.where(sampled, jnp.minimum(ratio, cap), 1)
  return jax.lax.stop_gradient(weights)


def weight_metrics(
  weights: jax.Array, in_loss: jax.Array, cap: float
) -> dict[str, masked.SumCount]:
  """(sum, count), over tokens: `importance/mean`, `importance/truncated`.

  The second is the share of weights that have reached `cap`.

  Args:
    weights: f32 [B, T], from `truncated_weights` with the same `cap`.
    in_loss: bool [B, T], tokens of the attempts that carry loss.
    cap: as in `truncated_weights`.
  """
  return {
    'importance/mean': masked.sum_and_count(weights, in_loss),
    'importance/truncated': masked.sum_and_count(weights >= cap, in_loss),
  }
