"""The update: trajectories and advantages in, a better policy out.

One compiled step scans over micro-batches, accumulates their gradients, and
applies Adam: once, or once for each mini-batch of whole problems. The reference
policy's logits are made chunk by chunk beside the policy's, so that the KL is
exact over the vocabulary and no [B, T, V] array exists.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from score_jax import arrays
from score_jax.algorithm import importance, kl_divergence, losses, rewards
from score_jax.models import attention as attention_lib
from score_jax.models import lora, model_config
from score_jax.training import (
  batch_parts,
  gradient_accumulation,
  length_buckets,
  optimizers,
  sharding,
  teacher_forcing,
)

Metrics = dict[str, tuple[jax.Array, jax.Array]]
# Of the policy that sampled: where a batch is stale, it says nothing.
GAP = 'engine/logprob_gap_max'


@dataclasses.dataclass(frozen=True)
class UpdateOptions:
  """What is compiled into an update."""

  # 'exact' over the vocabulary; 'k3' from the sampled token; 'reward': the
  # advantages contain it already, and the loss only reports it.
  kl: Literal['exact', 'k3', 'reward'] = 'exact'
  # Updates of a batch, one after the other, each on its share of the problems,
  # whose `samples_per_problem` sequences are adjacent. From the second on, the
  # policy that learns is not the one that sampled. Where there is a second, or
  # the batch is `stale`, all have `importance` weights of at most the cap.
  mini_batches: int = 1
  samples_per_problem: int = 1
  stale: bool = False  # an earlier policy may have sampled
  importance_cap: float = 2.0
  # M of each update, a divisor of its sequences; activations take 1 / M of the
  # memory.
  micro_batches: int = 1
  # Padded lengths of micro-batches, each compiled apart: `length_buckets`.
  length_buckets: int = 1
  temperature: float = 1.0  # that the trajectories were sampled with
  dtype: Any = jnp.float32  # of the activations
  unroll: bool = True  # layers in a Python loop; False: scanned
  remat: bool = False  # recompute activations in the backward pass
  # Most attempt tokens of a sequence, which alone get logits; None: T.
  attempt_tokens: int | None = None
  # The optimizer's, for the metric `clipped`, which None leaves out.
  max_grad_norm: float | None = None
  # Path of `attention.attend`; None: that of the default device. A program that
  # is compiled for another platform must name it.
  attention: attention_lib.Path | None = None


def make_train_step(
  config: model_config.ModelConfig,
  optimizer: optax.GradientTransformation,
  *,
  shardings: arrays.TrainState | None = None,
  **options,
) -> Callable[..., tuple[arrays.TrainState, Metrics]]:
  """Makes the compiled update of one configuration.

  Args:
    config: the model.
    optimizer: see `training.optimizers`.
    shardings: of the state, before and after; None: as the arguments are.
    **options: of `UpdateOptions`.

  Returns:
    step(state, reference params, batch, loss_mask bool [B, K], stage) ->
    (state, metrics as (sum, count) pairs). `loss_mask` is true for the
    attempts that carry loss. `state.step` grows by one, however many
    mini-batches there are. The state's buffers are donated. Where its params
    are adapters, the policy is the reference with them: there is no second
    copy.

  Example:
    >>> update = sj.make_train_step(config, optimizer, temperature=1.0)
    >>> state = sj.init_state(params, optimizer)
    >>> state, metrics = update(state, params, batch, loss_mask, stage)
    >>> total, count = metrics['kl/turn1']
  """
  options = UpdateOptions(**options)
  batch_sharding, jit_options = sharding.update_layout(shardings)
  loss_fn = functools.partial(_loss, config, options, batch_sharding)

  def update(state, sequences, reference, stage):
    batch, loss_mask = sequences
    num_sequences = loss_mask.shape[0]
    if batch.kept is not None:
      num_sequences = jnp.maximum(batch.kept.sum(), 1)

    def gradient_fn(part):
      (loss, (metrics, gap)), gradients = jax.value_and_grad(
        loss_fn, has_aux=True
      )(state.params, reference, part, stage, num_sequences)
      return (loss, metrics, gradients), gap

    if options.length_buckets > 1:
      gradient_fn = length_buckets.at_own_length(
        gradient_fn, options.length_buckets
      )
      # Before the split: one long sequence would make its whole micro-batch
      # long.
      sequences = length_buckets.deal_by_length(
        sequences, batch.trajectory.length, options.micro_batches
      )
    (loss, metrics, gradients), gap = gradient_accumulation.accumulate(
      gradient_fn,
      batch_parts.split_batch(sequences, options.micro_batches),
    )
    state, norm = optimizers.apply_if_finite(optimizer, loss, gradients, state)
    one = jnp.int32(1)
    metrics |= {
      'loss': (loss, one),
      'grad_norm': (norm, one),
      GAP: (gap, one),
    }
    if options.max_grad_norm is not None:
      is_clipped = norm > options.max_grad_norm
      metrics['clipped'] = (is_clipped.astype(jnp.float32), one)
    return state, metrics

  def train_step(state, reference, batch, loss_mask, stage):
    sequences = (batch, loss_mask)
    if options.mini_batches == 1:
      return update(state, sequences, reference, stage)
    after, each = jax.lax.scan(
      lambda state, part: update(state, part, reference, stage),
      state,
      batch_parts.split_problems(
        sequences, options.mini_batches, options.samples_per_problem
      ),
    )
    metrics = jax.tree.map(lambda x: x.sum(axis=0), each)
    # Only the first update is that of the policy that sampled.
    metrics[GAP] = jax.tree.map(lambda x: x[0], each[GAP])
    return after.replace(step=state.step + 1), metrics

  # Donated, so that new parameters and moments overwrite the old ones: without
  # it the state would exist twice while the update runs.
  return jax.jit(train_step, donate_argnums=0, **jit_options)


def _loss(
  config, options, batch_sharding, params, reference, part, stage, num_sequences
):
  """Loss of one micro-batch; its metrics; the largest log-probability gap."""
  if options.kl == 'reward':
    stage = rewards.without_kl(stage)
  batch, loss_mask = part
  if batch.kept is not None:
    loss_mask &= batch.kept[:, None]
  policy = lora.complete(params, reference)
  trajectory, is_k3 = batch.trajectory, options.kl == 'k3'
  statistics, index = teacher_forcing.attempt_statistics(
    config,
    policy,
    trajectory,
    options.attempt_tokens or trajectory.tokens.shape[1],
    reference=reference,
    temperature=options.temperature,
    divergence=None if is_k3 else kl_divergence.exact_kl,
    remat=options.remat,
    dtype=options.dtype,
    unroll=options.unroll,
    attention=options.attention,
    sharding=batch_sharding,
  )
  turn, sampler_logprobs = (
    jnp.take_along_axis(values, index, axis=1)
    for values in (trajectory.turn, trajectory.logprobs)
  )  # [B, A]
  drawn = teacher_forcing.attempts_mask(turn, trajectory.sampled)
  divergence, weights = statistics.divergence, None
  if is_k3:
    divergence = kl_divergence.k3(
      statistics.logprob, statistics.reference_logprob
    )
  if options.mini_batches > 1 or options.stale:
    weights = importance.truncated_weights(
      statistics.logprob, sampler_logprobs, drawn, options.importance_cap
    )
    if is_k3:
      # A mean over what was sampled; the exact KL is one over the vocabulary.
      divergence = weights * divergence
  loss, metrics = losses.score_loss(
    statistics.logprob,
    divergence,
    batch.advantages,
    turn,
    loss_mask,
    stage,
    # Of the whole update, so that micro-batches add up to its mean.
    num_sequences=num_sequences,
    entropy=statistics.entropy,
    weights=weights,
  )
  if weights is not None:
    metrics |= importance.weight_metrics(
      weights,
      teacher_forcing.attempts_mask(turn, loss_mask),
      options.importance_cap,
    )
  # Sampler and trainer differ by rounding alone unless something is wrong.
  gap = jnp.abs(statistics.logprob - sampler_logprobs)
  return loss, (metrics, jnp.where(drawn, gap, 0.0).max(initial=0.0))
