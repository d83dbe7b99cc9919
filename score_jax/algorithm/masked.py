"""Sums and means over the tokens of an attempt.

A mean that is taken over tokens or attempts travels as a pair (sum, count), so
that pairs from micro-batches add up to the pair of the whole batch.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

SumCount = tuple[jax.Array, jax.Array]  # f32 [], i32 []


def turn_sums(values: jax.Array, turn: jax.Array, num_turns: int) -> jax.Array:
  """Sums values over the tokens of each attempt.

  Values at tokens of no attempt (turn 0) are ignored, NaN included.

  Args:
    values: [B, T].
    turn: i32 [B, T], attempt of each token from 1, 0 for given tokens.
    num_turns: K.

  Returns:
    f32 [B, K]; 0 for an attempt without tokens.
  """
  sums = [
    jnp.where(turn == k, values, 0).sum(axis=-1, dtype=jnp.float32)
    for k in range(1, num_turns + 1)
  ]
  return jnp.stack(sums, axis=-1)


def turn_lengths(turn: jax.Array, num_turns: int) -> jax.Array:
  """Counts the tokens of each attempt: [B, T] -> i32 [B, K]."""
  counts = [
    (turn == k).sum(axis=-1, dtype=jnp.int32) for k in range(1, num_turns + 1)
  ]
  return jnp.stack(counts, axis=-1)


def sum_and_count(values: jax.Array, mask: jax.Array) -> SumCount:
  """Sum of the values under a bool mask of the same shape, and their number."""
  total = jnp.where(mask, values, 0).sum(dtype=jnp.float32)
  return total, mask.sum(dtype=jnp.int32)


def means(metrics: Mapping[str, SumCount]) -> dict[str, float]:
  """Means of (sum, count) pairs, on the host; without those of count 0."""
  host = jax.device_get(dict(metrics))
  return {
    name: float(total) / int(count)
    for name, (total, count) in host.items()
    if count > 0
  }
