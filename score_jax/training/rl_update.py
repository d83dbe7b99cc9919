"""The update: trajectories and advantages in, a better policy out.

One compiled step scans over micro-batches, accumulates their gradients, and
applies Adam once. The reference policy's logits are made chunk by chunk beside
the policy's, so that the KL is exact over the vocabulary and no [B, T, V]
array exists.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from score_jax import arrays
from score_jax.algorithm import losses, stage_coefficients
from score_jax.models import attention as attention_lib
from score_jax.models import lora, model_config, token_logprobs, transformer
from score_jax.training import length_buckets, optimizers, sharding

KLForm = Literal['exact', 'k3', 'reward']
Metrics = dict[str, tuple[jax.Array, jax.Array]]


def init_state(
  params: Any, optimizer: optax.GradientTransformation, beta2: float = 0.0
) -> arrays.TrainState:
  """The state at the start of a stage.

  It owns a float32 copy of the parameters: updates donate their buffers, which
  the reference policy may share. It lies where an update leaves it: moments
  with their parameters, scalars on all devices. jit would compile once more for
  a state that does not.

  Args:
    params: what is trained: all weights, or adapters.
    optimizer: see `training.optimizers`.
    beta2: where it adapts, its first value.
  """
  make = functools.partial(_new_state, optimizer=optimizer, beta2=beta2)
  where = jax.tree.map(lambda leaf: leaf.sharding, params)
  if isinstance(jax.tree.leaves(where)[0], jax.sharding.NamedSharding):
    where = sharding.state_shardings(jax.eval_shape(make, params), where)
    state = jax.jit(make, out_shardings=where)(params)
  else:
    device = jax.tree.leaves(where)[0]
    state = jax.tree.map(
      lambda x: jax.device_put(x, x.sharding if x.ndim else device),
      make(params),
    )
  return state.replace(params=jax.tree.map(jnp.copy, state.params))


def _new_state(params, optimizer, beta2):
  params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
  return arrays.TrainState(
    step=jnp.int32(0),
    params=params,
    opt_state=optimizer.init(params),
    beta2=jnp.float32(beta2),
    skipped=jnp.int32(0),
  )


def state_shardings(
  optimizer: optax.GradientTransformation, shapes: Any, shardings: Any
) -> arrays.TrainState:
  """Shardings of the state of parameters with these shapes and shardings."""
  make = functools.partial(_new_state, optimizer=optimizer, beta2=0.0)
  return sharding.state_shardings(jax.eval_shape(make, shapes), shardings)


@dataclasses.dataclass(frozen=True)
class UpdateOptions:
  """What is compiled into an update.

  Attributes:
    kl: 'exact' over the vocabulary; 'k3' from the sampled token; 'reward':
      the rewards contain it already, and the loss only reports it.
    micro_batches: M, which divides the rows; memory falls by it.
    length_buckets: lengths that micro-batches of short rows may be cut to,
      each compiled apart; see `training.length_buckets`.
    temperature: that the trajectories were sampled with.
    dtype: of the activations.
    unroll: layers in a Python loop; False: a scan over the layer pattern.
    remat: recompute activations in the backward pass.
    per_token: divide each attempt's loss by its length (not the paper's).
    attempt_tokens: most tokens of a row's attempts together, the only ones
      that logits are made of; None: as many as the row has.
    chunk: tokens of a row whose logits exist at one time.
    attention: path of `attention.attend`; None: the one for the default
      device, the dtype and the model. A program for another platform must say.
  """

  kl: KLForm = 'exact'
  micro_batches: int = 1
  length_buckets: int = 1
  temperature: float = 1.0
  dtype: Any = jnp.float32
  unroll: bool = True
  remat: bool = False
  per_token: bool = False
  attempt_tokens: int | None = None
  chunk: int = 128
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
    shardings: of the state, before and after; None: wherever it lies.
    **options: of `UpdateOptions`.

  Returns:
    step(state, reference params, batch, loss_mask bool [B, K], stage) ->
    (state, metrics as (sum, count) pairs). `loss_mask` is true for the
    attempts that carry loss. The state's buffers are donated. Where its
    params are adapters, the policy is the reference with them: there is no
    second copy.
  """
  options = UpdateOptions(**options)
  layout, jit_options = sharding.update_layout(shardings)
  loss_fn = functools.partial(_loss, config, options, layout)

  def train_step(
    state: arrays.TrainState,
    reference: Any,
    batch: arrays.TrainBatch,
    loss_mask: jax.Array,
    stage: stage_coefficients.Stage,
  ):
    def gradient_fn(micro):
      part, part_loss_mask = micro
      return length_buckets.at_own_length(
        lambda trajectory: jax.value_and_grad(loss_fn, has_aux=True)(
          state.params,
          reference,
          part.replace(trajectory=trajectory),
          part_loss_mask,
          stage,
          loss_mask.shape[0],
        ),
        part.trajectory,
        options.length_buckets,
      )

    rows = (batch, loss_mask)
    if options.length_buckets > 1:
      rows = length_buckets.deal_by_length(
        rows, batch.trajectory.length, options.micro_batches
      )
    micro = split_batch(rows, options.micro_batches)
    (loss, (metrics, gap)), gradients = _accumulate(gradient_fn, micro)
    state, norm = optimizers.apply_if_finite(optimizer, loss, gradients, state)
    one = jnp.int32(1)
    metrics |= {
      'loss': (loss, one),
      'grad_norm': (norm, one),
      'engine/logprob_gap_max': (gap, one),
    }
    return state, metrics

  return jax.jit(train_step, donate_argnums=0, **jit_options)


def _loss(
  config, options, rows, params, reference, batch, loss_mask, stage, num_rows
):
  """Loss of one micro-batch; its metrics; the largest log-probability gap."""
  policy = lora.complete(params, reference)
  trajectory = batch.trajectory
  forward = functools.partial(
    transformer.forward,
    config,
    tokens=trajectory.tokens,
    positions=sequence_positions(trajectory),
    dtype=options.dtype,
    unroll=options.unroll,
    attention=options.attention
    or attention_lib.default_path(
      jax.default_backend(), options.dtype, config.attention_softcap
    ),
    sharding=rows,
  )
  hidden, _ = forward(policy, remat=options.remat)
  reference_hidden, _ = forward(reference)
  index = token_logprobs.attempt_index(
    trajectory.turn, options.attempt_tokens or trajectory.tokens.shape[1]
  )
  tokens, turn, sampler_logprobs = (
    jnp.take_along_axis(values, index, axis=1)
    for values in (trajectory.tokens, trajectory.turn, trajectory.logprobs)
  )  # [B, A]: attempts only
  statistics = token_logprobs.target_statistics(
    config,
    policy['embedding'],
    token_logprobs.states_before(hidden, index),
    tokens,
    temperature=options.temperature,
    reference=(
      reference['embedding'],
      token_logprobs.states_before(reference_hidden, index),
    ),
    divergence=None if options.kl == 'k3' else losses.exact_kl,
    chunk=options.chunk,
  )
  divergence = statistics.divergence
  if options.kl == 'k3':
    divergence = losses.k3(statistics.logprob, statistics.reference_logprob)
  loss, metrics = losses.score_loss(
    statistics.logprob,
    divergence,
    batch.advantages,
    turn,
    loss_mask,
    stage,
    num_rows=num_rows,
    per_token=options.per_token,
    entropy=statistics.entropy,
  )
  gap = _logprob_gap(
    statistics.logprob, sampler_logprobs, turn, trajectory.sampled
  )
  return loss, (metrics, gap)


def _accumulate(gradient_fn, micro):
  """Adds up `gradient_fn` over micro-batches; of the gap, the largest."""

  def add(total, result):
    (loss, (metrics, gap)), gradients = result
    (loss_sum, (metrics_sum, largest)), gradients_sum = total
    sums = jax.tree.map(
      jnp.add,
      (loss_sum, metrics_sum, gradients_sum),
      (loss, metrics, gradients),
    )
    return (sums[0], (sums[1], jnp.maximum(largest, gap))), sums[2]

  shapes = jax.eval_shape(gradient_fn, jax.tree.map(lambda x: x[0], micro))
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  total, _ = jax.lax.scan(
    lambda total, part: (add(total, gradient_fn(part)), None), zeros, micro
  )
  return total


def make_reference_logprobs(
  config: model_config.ModelConfig,
  *,
  temperature: float = 1.0,
  dtype=jnp.float32,
  unroll: bool = True,
  chunk: int = 128,
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
      chunk=chunk,
    ).logprob

  return reference_logprobs


def sequence_positions(trajectory: arrays.Trajectory) -> jax.Array:
  """Each token's index in its row, -1 for padding, i32 [B, T]."""
  index = jnp.arange(trajectory.tokens.shape[1])[None]
  return jnp.where(index < trajectory.length[:, None], index, -1)


def split_batch(tree: Any, parts: int) -> Any:
  """[B, ...] leaves as [parts, B / parts, ...].

  Row b goes to part b mod parts: rows that lie side by side on one device are
  dealt out, so that every part has rows of every device.

  Raises:
    ValueError: the rows do not divide.
  """

  def split(x):
    if x.shape[0] % parts:
      raise ValueError(
        f'{x.shape[0]} rows do not divide into {parts} micro-batches'
      )
    dealt = x.reshape(x.shape[0] // parts, parts, *x.shape[1:])
    return dealt.swapaxes(0, 1)

  return jax.tree.map(split, tree)


def _logprob_gap(logprobs, sampler_logprobs, turn, sampled):
  """Largest |trainer - sampler| log-probability of the sampled tokens."""
  of_policy = jnp.zeros(turn.shape, bool)
  for k in range(sampled.shape[1]):
    of_policy |= (turn == k + 1) & sampled[:, k, None]
  gap = jnp.abs(logprobs - sampler_logprobs)
  return jnp.where(of_policy, gap, 0.0).max(initial=0.0)
