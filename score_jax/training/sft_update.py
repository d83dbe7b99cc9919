"""Supervised learning on given attempts: pre-training and the SFT baselines."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from score_jax import arrays
from score_jax.models import lora, model_config, token_logprobs, transformer
from score_jax.training import (
  gradient_accumulation,
  optimizers,
  sharding,
  teacher_forcing,
)


def make_supervised_step(
  config: model_config.ModelConfig,
  optimizer: optax.GradientTransformation,
  *,
  shardings: arrays.TrainState | None = None,
  dtype=jnp.float32,
  unroll: bool = True,
  remat: bool = False,
  micro_batches: int = 1,
  attempt_tokens: int | None = None,
) -> Callable[..., tuple[arrays.TrainState, dict[str, Any]]]:
  """Makes the compiled update on attempts that the policy did not sample.

  Loss: mean of -log pi over the tokens of the attempts in the loss mask, their
  stop tokens included; over all micro-batches together, whose masks may differ
  in size. The options are those of `rl_update.UpdateOptions`, except that
  `attempt_tokens=None` computes the logits of every token.

  Returns:
    step(state, trajectory, loss_mask bool [B, K], frozen=None) -> (state,
    metrics as (sum, count) pairs). The state's buffers are donated. Where
    its params are adapters, `frozen` has the weights that they belong to.
  """
  batch_sharding, jit_options = sharding.update_layout(shardings)

  def loss_fn(params, frozen, trajectory, loss_mask, num_tokens):
    policy = lora.complete(params, frozen)
    hidden, _ = transformer.forward(
      config,
      policy,
      trajectory.tokens,
      teacher_forcing.sequence_positions(trajectory),
      dtype=dtype,
      unroll=unroll,
      remat=remat,
      sharding=batch_sharding,
    )
    tokens, turn = trajectory.tokens, trajectory.turn
    if attempt_tokens is None:
      logprobs = token_logprobs.token_statistics(
        config, policy['embedding'], hidden, tokens
      ).logprob
    else:
      index = token_logprobs.attempt_index(turn, attempt_tokens)
      turn = jnp.take_along_axis(turn, index, axis=1)
      logprobs = token_logprobs.target_statistics(
        config,
        policy['embedding'],
        token_logprobs.states_before(hidden, index),
        jnp.take_along_axis(tokens, index, axis=1),
      ).logprob
    mask = teacher_forcing.attempts_mask(turn, loss_mask)
    total = -jnp.where(mask, logprobs, 0.0).sum()
    return total / jnp.maximum(num_tokens, 1), total

  def supervised_step(state, trajectory, loss_mask, frozen=None):
    count = teacher_forcing.attempts_mask(trajectory.turn, loss_mask).sum()

    def gradient_fn(part):
      result = jax.value_and_grad(loss_fn, has_aux=True)(
        state.params, frozen, *part, count
      )
      return result, ()

    if micro_batches == 1:
      result, _ = gradient_fn((trajectory, loss_mask))
    else:
      result, _ = gradient_accumulation.accumulate(
        gradient_fn,
        gradient_accumulation.split_batch(
          (trajectory, loss_mask), micro_batches
        ),
      )
    (loss, total), gradients = result
    state, norm = optimizers.apply_if_finite(optimizer, loss, gradients, state)
    return state, {'loss': (total, count), 'grad_norm': (norm, jnp.int32(1))}

  return jax.jit(supervised_step, donate_argnums=0, **jit_options)
