"""Our engine and updates, as the baselines are run; kinds are in `_KINDS`."""

import dataclasses
import functools
import pathlib
import sys

import jax
import jax.numpy as jnp

from experiments.benchmarks import serving, workload
from score_jax import arrays
from score_jax.algorithm import stage_coefficients
from score_jax.interop import hugging_face_config
from score_jax.models import inference, model_config, transformer
from score_jax.rollout import engine, turn_separator
from score_jax.training import (
  optimizers,
  rl_update,
  sft_update,
  sharding,
  train_state,
)


def model(work: workload.Workload) -> model_config.ModelConfig:
  """The workload's model; its products are narrow where the weights are."""
  config = _sizes(work)
  if _activations(work.dtype) == jnp.dtype(work.dtype):
    return config
  return dataclasses.replace(config, operands=work.dtype)


def _sizes(work):
  if work.architecture:
    return hugging_face_config.parse(pathlib.Path(), work.architecture)
  return model_config.ModelConfig(
    vocab_size=work.vocab,
    width=work.width,
    num_layers=work.layers,
    num_heads=work.heads,
    num_kv_heads=work.kv_heads,
    head_dim=work.head_dim,
    mlp_width=work.mlp,
    layer_pattern=('local', 'global'),
    window=work.window,
    post_norms=True,
    attention_softcap=50.0,
    final_softcap=30.0,
  )


def rollout(
  work: workload.Workload, compactions: int = 0, in_parts: str | None = None
):
  """Two attempts of every sequence, prompts prefilled once a problem.

  In parts, `work.at_once` sequences are decoded at a time: in 'batches', one
  after the other, or 'refilling' the rows of those that are complete.
  """
  config, dtype = model(work), jnp.dtype(work.dtype)
  make = jax.jit(
    lambda key: inference.inference_params(
      transformer.init_params(config, key), dtype
    )
  )
  params = make(jax.random.key(0))
  prompts = work.prompts()[:: work.samples]
  count = jnp.full(1, work.instruction, jnp.int32)
  between = (jnp.asarray(work.between())[None], count)
  separators = turn_separator.TurnSeparators(
    *between, *between, stop_ids=jnp.array([workload.STOP], jnp.int32)
  )
  arguments = {
    'prompts': arrays.Prompts(
      jnp.asarray(prompts), jnp.full(len(prompts), work.prompt, jnp.int32)
    ),
    'sequence_keys': jax.random.split(jax.random.key(1), work.rows),
    'separators': separators,
    'config': config,
    'max_new_tokens': (work.limit, work.limit),
    'samples_per_problem': work.samples,
    'forced_lengths': jnp.asarray(work.attempt_lengths()),
    'dtype': _activations(work.dtype),
    'cache_dtype': _activations(work.dtype),
    'compactions': compactions,
  }
  size, at_once = work.rows, work.at_once or work.rows // 2
  if in_parts == 'refilling':
    arguments['rows'] = at_once
  elif in_parts == 'batches':
    size = at_once

  def part(start):
    problems = slice(start // work.samples, (start + size) // work.samples)
    sequences = slice(start, start + size)
    return arguments | {
      'prompts': jax.tree.map(lambda x: x[problems], arguments['prompts']),
      'sequence_keys': arguments['sequence_keys'][sequences],
      'forced_lengths': arguments['forced_lengths'][sequences],
    }

  parts = [part(start) for start in range(0, work.rows, size)]

  def run():
    for of_part in parts:
      jax.block_until_ready(engine.sample_episodes(params, **of_part))

  return run


def _activations(dtype: str):
  """Dtype of activations and cache, as `device_layout.make` chooses it."""
  return jnp.dtype('float32' if jax.default_backend() == 'cpu' else dtype)


def _device_peak() -> int | None:
  statistics = jax.local_devices()[0].memory_stats() or {}
  return statistics.get('peak_bytes_in_use')


def _trajectory(work: workload.Workload) -> arrays.Trajectory:
  tokens, turn = work.episodes()
  length = work.prompt + work.instruction + work.attempt_lengths().sum(axis=1)
  return arrays.Trajectory(
    tokens=jnp.asarray(tokens),
    turn=jnp.asarray(turn),
    sampled=jnp.ones((work.rows, 2), bool),
    logprobs=jnp.zeros(tokens.shape, jnp.float32),
    length=jnp.asarray(length, jnp.int32),
    finished=jnp.ones((work.rows, 2), bool),
    problem_index=jnp.arange(work.rows, dtype=jnp.int32) // work.samples,
  )


def _optimizer_and_state(work):
  """Optimizer, state, its shardings or None, and a function for batches."""
  config, optimizer = model(work), optimizers.make_optimizer(1e-6)
  make = jax.jit(transformer.init_params, static_argnums=0)
  params = make(config, jax.random.key(0))
  if work.devices == 1:
    return (
      optimizer,
      train_state.init_state(params, optimizer),
      None,
      lambda x: x,
    )
  mesh = sharding.make_mesh(jax.devices(), work.devices, 1, 1)
  of_params = sharding.param_shardings(config, mesh)
  state = train_state.init_state(jax.device_put(params, of_params), optimizer)
  batch_sharding = sharding.batch_sharding(mesh)
  return (
    optimizer,
    state,
    train_state.state_shardings(optimizer, state.params, of_params),
    lambda tree: jax.device_put(tree, batch_sharding),
  )


def _micro_batches(work: workload.Workload) -> int:
  """Few sequences at a time: a CPU's caches and reuse of its heap decide."""
  return max(1, work.rows // max(4, work.devices))


def update(work: workload.Workload, length_buckets: int = 1):
  """Forward and backward of the policy, the reference, exact KL, Adam."""
  optimizer, state, shardings, put = _optimizer_and_state(work)
  reference = jax.tree.map(jnp.copy, state.params)
  train_step = rl_update.make_train_step(
    model(work),
    optimizer,
    shardings=shardings,
    micro_batches=_micro_batches(work),
    dtype=_activations('bfloat16'),
    length_buckets=length_buckets,
    attempt_tokens=2 * work.limit,
  )
  batch = arrays.TrainBatch(_trajectory(work), jnp.ones((work.rows, 2)))
  batch, loss_mask = put((batch, jnp.ones((work.rows, 2), bool)))
  rest = (reference, batch, loss_mask, stage_coefficients.stage_two())
  return _repeat(train_step, state, *rest)


def update_without_reference(work: workload.Workload):
  """Forward and backward of the policy, Adam: as bare torch does."""
  optimizer, state, shardings, put = _optimizer_and_state(work)
  train_step = sft_update.make_supervised_step(
    model(work),
    optimizer,
    shardings=shardings,
    micro_batches=_micro_batches(work),
    dtype=_activations('bfloat16'),
  )
  rest = put((_trajectory(work), jnp.ones((work.rows, 2), bool)))
  return _repeat(train_step, state, *rest)


def _repeat(train_step, state, *rest):
  """A function that updates the state, whose buffers are donated, each time."""
  held = [state]

  def run():
    held[0], _ = train_step(held[0], *rest)
    jax.block_until_ready(held[0])

  return run


_KINDS = {
  'rollout': rollout,
  'shrinking': functools.partial(rollout, compactions=3),
  'batches': functools.partial(rollout, compactions=2, in_parts='batches'),
  'refilling': functools.partial(rollout, compactions=2, in_parts='refilling'),
  'update': update,
  'length_buckets': functools.partial(update, length_buckets=4),
  'supervised': update_without_reference,
}

if __name__ == '__main__':
  job = workload.Workload.from_json(sys.argv[2])
  serving.serve(lambda: _KINDS[sys.argv[1]](job), _device_peak)
