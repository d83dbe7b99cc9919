"""Rollout and update of a Gemma on this machine: memory and tokens a second.

    python -m experiments.benchmark gemma_memory --model=gemma-3-270m

Weights are random: neither memory nor time depends on them. Each half runs in
a process of its own, so that its peak is its own. What fills the memory is
computed from shapes, what the program needs besides its arguments is the
compiler's account, and the peak is the operating system's.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
import multiprocessing
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import process_memory
from experiments.config import command_line
from score_jax import arrays
from score_jax.algorithm import stage_coefficients
from score_jax.models import (
  gemma,
  inference,
  kv_cache,
  model_config,
  transformer,
)
from score_jax.rollout import engine, turn_separator
from score_jax.training import optimizers, rl_update, train_state

_BLOCK = 16  # tokens between attempts
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Options:
  """Measures a rollout and an update of random weights.

  Attributes:
    model: one of the published sizes, such as gemma-3-270m.
    layers: of it; 0: all.
    rows: episodes at a time, four of a problem.
    prompt: tokens of each prompt.
    attempt: tokens of each of the two attempts.
    micro_batches: into which the update splits the rows.
    repeats: timed runs after the first; the fastest counts.
  """

  model: str = 'gemma-3-270m'
  layers: int = 0
  rows: int = 8
  prompt: int = 64
  attempt: int = 64
  micro_batches: int = 4
  repeats: int = 2

  @property
  def config(self) -> model_config.ModelConfig:
    """The model."""
    config = gemma.CONFIGS[self.model]
    if self.layers:
      config = dataclasses.replace(config, num_layers=self.layers)
    return config

  @property
  def length(self) -> int:
    """T."""
    return engine.sequence_length(self.prompt, (self.attempt,) * 2, _BLOCK)


def main(arguments: Sequence[str] | None = None) -> int:
  """Measures both halves, prints a table each, returns the exit code."""
  options = command_line.parse(
    Options,
    arguments,
    program='experiments.benchmark gemma_memory',
    document=__doc__,
  )
  for part in (rollout, update):
    process = multiprocessing.get_context('spawn').Process(
      target=part, args=(options,)
    )
    process.start()
    process.join()
    if process.exitcode:
      raise SystemExit(
        f'{part.__name__} ended with {process.exitcode}; a negative number is '
        'a signal, and -9 usually means that the memory did not suffice'
      )
  return 0


def rollout(options: Options) -> None:
  """Two attempts of fixed length for each row."""
  config, rows = options.config, options.rows
  samples = min(4, rows)
  max_new_tokens = (options.attempt,) * 2
  view = _random(
    lambda key: inference.inference_params(transformer.init_params(config, key))
  )
  between = (jnp.full((1, _BLOCK), 7, jnp.int32), jnp.full(1, _BLOCK))
  inputs = (
    view,
    arrays.Prompts(
      jnp.full((rows // samples, options.prompt), 7, jnp.int32),
      jnp.full(rows // samples, options.prompt, jnp.int32),
    ),
    jax.random.split(jax.random.key(1), rows),
    turn_separator.TurnSeparators(
      *between, *between, stop_ids=jnp.ones(1, jnp.int32)
    ),
  )
  forced = jnp.full((rows, 2), options.attempt, jnp.int32)
  compiled = engine.sample_episodes.lower(
    *inputs,
    config=config,
    max_new_tokens=max_new_tokens,
    samples_per_problem=samples,
    forced_lengths=forced,
  ).compile()
  cache = jax.eval_shape(
    lambda: kv_cache.empty(config, rows, options.length, block=_BLOCK)
  )
  _report(
    f'rollout of {options.model}, {rows} rows of {options.length} tokens',
    compiled,
    lambda: compiled(*inputs, forced_lengths=forced),
    options.repeats,
    rows * 2 * options.attempt,
    {
      'parameters': _bytes(view),
      'cache': _bytes(cache),
      'logits (one token a row)': 4 * rows * config.vocab_size,
    },
  )


def update(options: Options) -> None:
  """One update of the same rows, exact KL against a bf16 reference."""
  config, rows, length = options.config, options.rows, options.length
  optimizer = optimizers.make_optimizer(1e-5)
  params = _random(lambda key: transformer.init_params(config, key))
  reference = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
  state = train_state.init_state(params, optimizer)
  batch = arrays.TrainBatch(
    _trajectory(options), jnp.ones((rows, 2), jnp.float32)
  )
  rest = (
    reference,
    batch,
    jnp.ones((rows, 2), bool),
    stage_coefficients.stage_two(),
  )
  compiled = (
    rl_update.make_train_step(
      config,
      optimizer,
      micro_batches=options.micro_batches,
      unroll=False,
      remat=True,
    )
    .lower(state, *rest)
    .compile()
  )
  held = [state]
  del state, params  # donated

  def run():
    held[0], metrics = compiled(held[0], *rest)
    return metrics

  chunk = min(128, length)
  _report(
    f'update of {options.model}, {rows} rows of {length} tokens',
    compiled,
    run,
    options.repeats,
    rows * length,
    {
      'parameters': _bytes(held[0].params),
      'reference': _bytes(reference),
      "Adam's moments": _bytes(held[0].opt_state),
      'gradients': _bytes(held[0].params),
      'logits (a chunk, policy and reference)': 2
      * 4
      * (rows // options.micro_batches)
      * chunk
      * config.vocab_size,
    },
  )


def _random(make: Callable[[jax.Array], Any]) -> Any:
  """Small numbers in the shapes that `make` returns, without its peak."""
  numbers = np.random.default_rng(0)
  return jax.tree.map(
    lambda s: jnp.asarray(
      0.02 * numbers.standard_normal(s.shape, np.float32), s.dtype
    ),
    jax.eval_shape(make, jax.random.key(0)),
  )


def _trajectory(options: Options) -> arrays.Trajectory:
  """Rows in which both attempts are sampled."""
  rows, attempt = options.rows, options.attempt
  turn = [0] * options.prompt + [1] * attempt + [0] * _BLOCK + [2] * attempt
  return arrays.Trajectory(
    tokens=jnp.full((rows, options.length), 7, jnp.int32),
    turn=jnp.broadcast_to(
      jnp.array(turn, jnp.int32)[None], (rows, options.length)
    ),
    sampled=jnp.ones((rows, 2), bool),
    logprobs=jnp.zeros((rows, options.length), jnp.float32),
    length=jnp.full(rows, options.length, jnp.int32),
    finished=jnp.ones((rows, 2), bool),
    problem_index=jnp.arange(rows, dtype=jnp.int32) // 4,
  )


def _report(
  title: str,
  compiled: Any,
  run: Callable[[], Any],
  repeats: int,
  tokens: int,
  shares: Mapping[str, int],
) -> None:
  process_memory.forget_peak()
  seconds, cpu_seconds = math.inf, math.inf
  for timed in range(repeats + 1):
    start, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(run())
    if timed:
      seconds = min(seconds, time.perf_counter() - start)
      cpu_seconds = min(cpu_seconds, time.process_time() - cpu)
  print(title)
  peak = process_memory.peak()
  shares = shares | {
    'temporaries of the program, in all': (
      compiled.memory_analysis().temp_size_in_bytes
    ),
    'peak of the process': peak,
  }
  for name, size in shares.items():
    print(f'  {name:40} {size / _MIB:8.0f} MiB {size / peak:5.0%} of the peak')
  print(
    f'  {tokens / seconds:.1f} tokens a second, '
    f'{tokens / cpu_seconds:.1f} a CPU second'
  )


def _bytes(tree: Any) -> int:
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


if __name__ == '__main__':
  main()
