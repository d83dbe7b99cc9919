"""Whole sequences through the model: positions, masks and log-probabilities."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp

from score_jax import arrays
from score_jax.models import model_config, token_logprobs, transformer
from score_jax.training import device_layout


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


def attempt_statistics(
  config: model_config.ModelConfig,
  policy: Any,
  trajectory: arrays.Trajectory,
  attempt_tokens: int,
  *,
  reference: Any = None,
  temperature: float = 1.0,
  divergence: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
  remat: bool = False,
  **options: Any,
) -> tuple[token_logprobs.TokenStatistics, jax.Array]:
  """Statistics of the attempts' tokens, the only ones with logits.

  The output layer is the largest product of all.

  Args:
    config: the model.
    policy: its parameters.
    trajectory: B sequences.
    attempt_tokens: A, at least any sequence's attempt tokens.
    reference: parameters of the reference policy, not differentiated.
    temperature: divides the logits of both.
    divergence: of (policy logits, reference logits) [..., V] -> [...].
    remat: recompute the policy's activations in the backward pass.
    **options: of `transformer.forward`.

  Returns:
    f32 [B, A] each, and where the tokens are in their sequences, i32 [B, A];
    beyond a sequence's attempts they are tokens of turn 0.
  """
  forward = functools.partial(
    transformer.forward,
    config,
    tokens=trajectory.tokens,
    positions=sequence_positions(trajectory),
    **options,
  )
  index = token_logprobs.attempt_index(trajectory.turn, attempt_tokens)

  def states(params, **more):
    hidden, _ = forward(params, **more)
    return token_logprobs.states_before(hidden, index)

  statistics = token_logprobs.target_statistics(
    config,
    policy['embedding'],
    states(policy, remat=remat),
    jnp.take_along_axis(trajectory.tokens, index, axis=1),
    temperature=temperature,
    # Nothing is differentiated through the reference, so that its forward pass
    # keeps no activations and has no use for remat.
    reference=None
    if reference is None
    else (reference['embedding'], states(reference)),
    divergence=divergence,
  )
  return statistics, index


def make_reference_logprobs(
  layout: device_layout.Layout, *, temperature: float = 1.0
) -> Callable[[Any, arrays.Trajectory], jax.Array]:
  """Makes (params, trajectory) -> log-probabilities f32 [B, T], compiled."""

  @jax.jit
  def reference_logprobs(params, trajectory):
    hidden, _ = transformer.forward(
      layout.config,
      params,
      trajectory.tokens,
      sequence_positions(trajectory),
      dtype=layout.activation_dtype,
      unroll=layout.unrolls,
      sharding=layout.update.batch,
    )
    return token_logprobs.token_statistics(
      layout.config,
      params['embedding'],
      hidden,
      trajectory.tokens,
      temperature=temperature,
    ).logprob

  return reference_logprobs
