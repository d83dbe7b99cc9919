"""Supervised learning on given attempts: pre-training and the SFT baselines."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from score_jax import arrays
from score_jax.models import lora, model_config, token_logprobs, transformer
from score_jax.training import (
  batch_parts,
  device_layout,
  gradient_accumulation,
  optimizers,
  sharding,
  teacher_forcing,
  train_state,
)


@functools.cache  # jit compiles once for each function object.
def make_update(
  layout: device_layout.Layout,
  optimizer: optax.GradientTransformation,
  **options: Any,
) -> Callable[..., tuple[arrays.TrainState, dict[str, Any]]]:
  """The update of supervised learning; the same one for equal arguments.

  Args:
    layout: of the model on its devices.
    optimizer: see `training.optimizers`.
    **options: of `make_supervised_step`.
  """
  return make_supervised_step(
    layout.config,
    optimizer,
    shardings=train_state.state_shardings(
      optimizer, layout.trained_shapes, layout.trained
    ),
    dtype=layout.activation_dtype,
    unroll=layout.unrolls,
    **options,
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
    policy, turn = lora.complete(params, frozen), trajectory.turn
    forward = {
      'dtype': dtype,
      'unroll': unroll,
      'remat': remat,
      'sharding': batch_sharding,
    }
    if attempt_tokens is None:
      hidden, _ = transformer.forward(
        config,
        policy,
        trajectory.tokens,
        teacher_forcing.sequence_positions(trajectory),
        **forward,
      )
      logprobs = token_logprobs.token_statistics(
        config, policy['embedding'], hidden, trajectory.tokens
      ).logprob
    else:
      statistics, index = teacher_forcing.attempt_statistics(
        config, policy, trajectory, attempt_tokens, **forward
      )
      logprobs = statistics.logprob
      turn = jnp.take_along_axis(turn, index, axis=1)
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
        batch_parts.split_batch((trajectory, loss_mask), micro_batches),
      )
    (loss, total), gradients = result
    state, norm = optimizers.apply_if_finite(optimizer, loss, gradients, state)
    return state, {'loss': (total, count), 'grad_norm': (norm, jnp.int32(1))}

  return jax.jit(supervised_step, donate_argnums=0, **jit_options)
