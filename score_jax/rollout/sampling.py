"""Drawing a token: two-level inverse CDF, or the best token.

One uniform a row picks the token from the cumulated probabilities; summing in
blocks first and then inside the chosen block costs a tenth of Gumbel noise on
a CPU, and the same sums give the log-probability.
"""

import jax
import jax.numpy as jnp

_BLOCK = 64


def draw(logits: jax.Array, uniform: jax.Array) -> jax.Array:
  """Samples from softmax(logits).

  Args:
    logits: f32 [B, V], already divided by the temperature.
    uniform: f32 [B] in [0, 1).

  Returns:
    i32 [B].
  """
  weights = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
  batch, vocab = weights.shape
  weights = jnp.pad(weights, ((0, 0), (0, -vocab % _BLOCK)))
  blocks = weights.reshape(batch, -1, _BLOCK)
  block_ends = jnp.cumsum(blocks.sum(axis=-1), axis=-1)  # [B, V / 64]
  target = uniform * block_ends[:, -1]
  block = _first_above(block_ends, target)
  starts = jnp.pad(block_ends, ((0, 0), (1, 0)))
  inside = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
  start = jnp.take_along_axis(starts, block[:, None], axis=1)
  offset = _first_above(start + jnp.cumsum(inside, axis=-1), target)
  # Rounding may leave the target beyond the last token that has any weight.
  last = _BLOCK - 1 - jnp.argmax(inside[:, ::-1] > 0, axis=-1)
  return (block * _BLOCK + jnp.minimum(offset, last)).astype(jnp.int32)


def _first_above(ends, target):
  """Index of the first of the increasing `ends` [B, n] above target [B]."""
  index = jnp.sum(ends <= target[:, None], axis=-1)
  return jnp.minimum(index, ends.shape[-1] - 1)


def logprob(logits: jax.Array, tokens: jax.Array) -> jax.Array:
  """Log softmax(logits)[tokens], f32 [B]."""
  picked = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
  return picked - jax.nn.logsumexp(logits, axis=-1)
