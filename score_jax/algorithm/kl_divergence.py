"""The KL to the reference policy, exact or sampled, at given prefixes.

Eq. 2 to 4 subtract it from the reward. Everything indexed by t describes token
t: its distribution is conditioned on the tokens before it.
"""

import chex
import jax
import jax.numpy as jnp


def exact_kl(
  policy_logits: jax.Array, reference_logits: jax.Array
) -> jax.Array:
  """KL(policy || reference) over the vocabulary, at given prefixes.

    KL_t = sum_v pi(v) * (log pi(v) - log pi_ref(v))

  Summed over sampled tokens its expectation is the attempt's whole KL. Its
  derivative, however, is taken at fixed prefixes: it leaves out that token t
  also decides which prefixes follow, and with them later KLs. That term,
  sum_t grad log pi(t) * (KLs after t), is included in `rewards.kl_rewards`,
  at the price of noise. Entries of both at minus infinity (padding of the
  vocabulary) contribute 0.

  Args:
    policy_logits: [..., V], divided by the sampling temperature.
    reference_logits: [..., V], divided by the same; not differentiated.

  Returns:
    f32 [...], nats.

  Example:
    >>> policy, reference = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    >>> round(float(sj.exact_kl(policy, reference)[0]), 3)
    0.144
  """
  chex.assert_equal_shape([policy_logits, reference_logits])
  return _kl(
    policy_logits.astype(jnp.float32), reference_logits.astype(jnp.float32)
  )


@jax.custom_vjp
def _kl(policy_logits, reference_logits):
  return _kl_forward(policy_logits, reference_logits)[0]


def _kl_forward(policy_logits, reference_logits):
  policy = jax.nn.log_softmax(policy_logits)
  # Masking the difference keeps 0 * (-inf + inf) out.
  difference = policy - jax.nn.log_softmax(reference_logits)
  ratio = jnp.where(policy > -jnp.inf, difference, 0)
  probability = jnp.exp(policy)
  kl = (probability * ratio).sum(axis=-1)
  return kl, (probability, ratio, kl)


def _kl_backward(residuals, cotangent):
  """Slope in logit v: pi(v) * (log pi(v) - log pi_ref(v) - KL)."""
  probability, ratio, kl = residuals
  slope = probability * (ratio - kl[..., None])
  return cotangent[..., None] * slope, jnp.zeros_like(ratio)


_kl.defvjp(_kl_forward, _kl_backward)


def k3(logprob: jax.Array, reference_logprob: jax.Array) -> jax.Array:
  """Schulman's k3 from the sampled token alone: pi_ref/pi - 1 - log(pi_ref/pi).

  As a value it estimates KL(policy || reference) without bias and is never
  negative. As a loss it pulls along the other direction: the expected gradient
  is that of KL(reference || policy) at the sampled prefixes, since
  E[(1 - pi_ref/pi) * grad log pi] = -sum_v pi_ref * grad log pi. The logarithm
  of the ratio by itself (k1) is never a loss: E[grad log pi] = 0, so it would
  regularise nothing.

  Args:
    logprob: [...], of the policy.
    reference_logprob: [...], of the reference; not differentiated.

  Returns:
    f32 [...], nats.
  """
  chex.assert_equal_shape([logprob, reference_logprob])
  reference = jax.lax.stop_gradient(reference_logprob.astype(jnp.float32))
  log_ratio = reference - logprob.astype(jnp.float32)
  return jnp.expm1(log_ratio) - log_ratio
