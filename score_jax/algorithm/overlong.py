"""Attempts near their limit of tokens, or cut off by it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from score_jax.algorithm import masked


def soft_penalty(
  turn: jax.Array, max_new_tokens: Sequence[int], buffer: int
) -> jax.Array:
  """DAPO's soft overlong punishment: from 0 to -1 over the last tokens.

    R(y) = 0                         for |y| <= L - C
    R(y) = ((L - C) - |y|) / C       for L - C < |y| <= L

  Yu et al., 2025 (arXiv:2503.14476), Eq. 13, for an attempt y of |y| tokens, a
  limit of L tokens and a buffer of the last C of them: an attempt that is cut
  off has -1. It is added to the attempt's score.

  Args:
    turn: i32 [B, T], attempt of each token from 1, 0 for given tokens.
    max_new_tokens: L of each of the K turns.
    buffer: C.

  Returns:
    f32 [B, K].
  """
  limits = jnp.array(max_new_tokens)[None]  # [1, K]
  length = masked.turn_lengths(turn, len(max_new_tokens))
  over = jnp.clip(length - (limits - buffer), 0, buffer)
  return -over.astype(jnp.float32) / buffer
