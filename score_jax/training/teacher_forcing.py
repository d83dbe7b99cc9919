"""Whole sequences through the model: positions, masks and log-probabilities."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from score_jax import arrays
from score_jax.models import model_config, token_logprobs, transformer


def sequence_positions(trajectory: arrays.Trajectory) -> jax.Array:
  """Each token's index in its sequence, -1 for padding, i32 [B, T]."""
  index = jnp.arange(trajectory.tokens.shape[1])[None]
  return jnp.where(index < trajectory.length[:, None], index, -1)


def attempts_mask(turn: jax.Array, attempts: jax.Array) -> jax.Array:
  """Tokens of the chosen attempts, bool [B, T].

  Args:
    turn: i32 [B, T], attempt of each token from 1, 0 for given tokens.
    attempts: bool [B, K], the attempts chosen.
  """
  mask = jnp.zeros(turn.shape, bool)
  for k in range(attempts.shape[1]):
    mask |= (turn == k + 1) & attempts[:, k, None]
  return mask


def make_reference_logprobs(
  config: model_config.ModelConfig,
  *,
  temperature: float = 1.0,
  dtype=jnp.float32,
  unroll: bool = True,
) -> Callable[[Any, arrays.Trajectory], jax.Array]:
  """Makes (params, trajectory) -> log-probabilities f32 [B, T], compiled."""

  @jax.jit
  def reference_logprobs(params, trajectory):
    hidden, _ = transformer.forward(
      config,
      params,
      trajectory.tokens,
      sequence_positions(trajectory),
      dtype=dtype,
      unroll=unroll,
    )
    return token_logprobs.token_statistics(
      config,
      params['embedding'],
      hidden,
      trajectory.tokens,
      temperature=temperature,
    ).logprob

  return reference_logprobs
