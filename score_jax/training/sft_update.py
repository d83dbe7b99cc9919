"""Supervised learning on given attempts: pre-training and the SFT baselines."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from score_jax import arrays
from score_jax.models import lora, model_config, token_logprobs, transformer
from score_jax.training import optimizers, rl_update, sharding


def make_supervised_step(
  config: model_config.ModelConfig,
  optimizer: optax.GradientTransformation,
  *,
  shardings: arrays.TrainState | None = None,
  dtype=jnp.float32,
  unroll: bool = True,
  remat: bool = False,
  chunk: int = 128,
  micro_batches: int = 1,
  attempt_tokens: int | None = None,
) -> Callable[..., tuple[arrays.TrainState, dict[str, Any]]]:
  """Makes the compiled update on rows whose attempts were written by others.

  Loss: mean of -log pi over the tokens of the attempts in the loss mask, their
  stop tokens included. `micro_batches` divides the rows; memory falls by it,
  and the mean stays that over the tokens of all rows. `shardings`: as for
  `step.make_train_step`. `attempt_tokens`: most tokens of a row's attempts
  together, the only ones that logits are made of; None: logits of all tokens.

  Returns:
    step(state, trajectory, loss_mask bool [B, K], frozen=None) -> (state,
    metrics as (sum, count) pairs). The state's buffers are donated. Where
    its params are adapters, `frozen` has the weights that they belong to.
  """
  rows, jit_options = sharding.update_layout(shardings)

  def loss_fn(params, frozen, trajectory, loss_mask, num_tokens):
    policy = lora.complete(params, frozen)
    hidden, _ = transformer.forward(
      config,
      policy,
      trajectory.tokens,
      rl_update.sequence_positions(trajectory),
      dtype=dtype,
      unroll=unroll,
      remat=remat,
      sharding=rows,
    )
    tokens, turn = trajectory.tokens, trajectory.turn
    if attempt_tokens is None:
      logprobs = token_logprobs.token_statistics(
        config, policy['embedding'], hidden, tokens, chunk=chunk
      ).logprob
    else:
      index = token_logprobs.attempt_index(turn, attempt_tokens)
      turn = jnp.take_along_axis(turn, index, axis=1)
      logprobs = token_logprobs.target_statistics(
        config,
        policy['embedding'],
        token_logprobs.states_before(hidden, index),
        jnp.take_along_axis(tokens, index, axis=1),
        chunk=chunk,
      ).logprob
    mask = _token_loss_mask(turn, loss_mask)
    total = -jnp.where(mask, logprobs, 0.0).sum()
    return total / jnp.maximum(num_tokens, 1), total

  def supervised_step(state, trajectory, loss_mask, frozen=None):
    count = _token_loss_mask(trajectory.turn, loss_mask).sum()

    def gradient_fn(part):
      return jax.value_and_grad(loss_fn, has_aux=True)(
        state.params, frozen, *part, count
      )

    if micro_batches == 1:
      (loss, total), gradients = gradient_fn((trajectory, loss_mask))
    else:
      parts = rl_update.split_batch((trajectory, loss_mask), micro_batches)
      (loss, total), gradients = _add_up(gradient_fn, parts)
    state, norm = optimizers.apply_if_finite(optimizer, loss, gradients, state)
    return state, {'loss': (total, count), 'grad_norm': (norm, jnp.int32(1))}

  return jax.jit(supervised_step, donate_argnums=0, **jit_options)


def _token_loss_mask(turn: jax.Array, loss_mask: jax.Array) -> jax.Array:
  """Tokens of the attempts in the loss mask, bool [B, T]."""
  mask = jnp.zeros(turn.shape, bool)
  for k in range(loss_mask.shape[1]):
    mask |= (turn == k + 1) & loss_mask[:, k, None]
  return mask


def _add_up(function: Callable[[Any], Any], parts: Any) -> Any:
  """The sum of a function's values over the leading axis of `parts`."""
  shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts))
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  total, _ = jax.lax.scan(
    lambda total, part: (jax.tree.map(jnp.add, total, function(part)), None),
    zeros,
    parts,
  )
  return total
