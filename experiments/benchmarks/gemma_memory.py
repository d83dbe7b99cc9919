"""Rollout and update of a Gemma on this machine: memory and tokens a second.

    python -m experiments.benchmark gemma_memory --model=gemma-3-270m

Weights are random: neither memory nor time depends on them. Each half runs in
a process of its own, so that its peak is its own. Sizes of arrays are computed
from shapes, temporaries are the compiler's figure, and the peak is the
operating system's.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import process_memory
from experiments.config import command_line
from experiments.planning import memory, programs
from score_jax.models import gemma

_SEPARATOR = 16  # tokens between attempts
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Options:
  """Measures a rollout and an update of random weights.

  Attributes:
    model: one of the published sizes, such as gemma-3-270m.
    layers: layers of it; 0: all.
    rows: episodes at a time, four of a problem.
    prompt: tokens of each prompt.
    attempt: tokens of each of the two attempts.
    micro_batches: parts of a batch whose gradients are computed in turn.
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
  def sizes(self) -> programs.Sizes:
    """Sizes of the episodes."""
    samples = min(4, self.rows)
    return programs.Sizes(
      problems=self.rows // samples,
      samples=samples,
      prompt=self.prompt,
      max_new_tokens=(self.attempt,) * 2,
      separator=_SEPARATOR,
    )


def main(arguments: Sequence[str] | None = None) -> int:
  """Measures both halves, prints a table each, returns the exit code."""
  options = command_line.parse(
    Options,
    arguments,
    program='experiments.benchmark gemma_memory',
    document=__doc__,
  )
  for part in (rollout, update):
    process_memory.run_alone(part, options)
  return 0


def _model(options: Options, frozen_dtype: Any = jnp.float32):
  config = gemma.CONFIGS[options.model]
  if options.layers:
    config = dataclasses.replace(config, num_layers=options.layers)
  return programs.Model(config, frozen_dtype=frozen_dtype)


def rollout(options: Options) -> None:
  """Measures two attempts, which end at their limits."""
  model, sizes = _model(options), options.sizes
  lowered = programs.lower_episode(model, sizes)
  compiled, inputs = lowered.compile(), _numbers(lowered)
  _report(
    f'rollout of {options.model}, {options.rows} rows of {sizes.length} tokens',
    compiled,
    lambda: compiled(*inputs),
    options.repeats,
    options.rows * sum(sizes.max_new_tokens),
    {
      'parameters': memory.of_shapes(model.inference_params()),
      'cache': memory.of_shapes(memory.cache(model, sizes).layers),
      'logits (one token a row)': 4 * options.rows * model.config.vocab_size,
    },
  )


def update(options: Options) -> None:
  """Measures an update of as many, exact KL against a bf16 reference."""
  model, length = _model(options, jnp.bfloat16), options.sizes.length
  lowered = programs.lower_update(
    model,
    options.rows,
    length,
    micro_batches=options.micro_batches,
    unroll=False,
    remat=True,
  )
  compiled, held = lowered.compile(), list(_numbers(lowered))

  def run():
    held[0], metrics = compiled(*held)  # the state is donated
    return metrics

  state = model.state()
  tokens = options.rows // options.micro_batches * min(128, length)
  _report(
    f'update of {options.model}, {options.rows} rows of {length} tokens',
    compiled,
    run,
    options.repeats,
    options.rows * length,
    {
      'parameters': memory.of_shapes(state.params),
      'reference': memory.of_shapes(model.reference()),
      "Adam's moments": memory.of_shapes(state.opt_state),
      'gradients': memory.of_shapes(state.params),
      'logits (a chunk, policy and reference)': (
        2 * 4 * tokens * model.config.vocab_size
      ),
    },
  )


def _numbers(lowered: Any) -> tuple[Any, ...]:
  """A program's arguments: small numbers, since no time depends on them.

  Integers are 1: token, turn and lengths that all are valid.
  """
  numbers = np.random.default_rng(0)

  def make(info):
    if jnp.issubdtype(info.dtype, jax.dtypes.prng_key):
      return jax.random.split(jax.random.key(1), info.shape)
    if jnp.issubdtype(info.dtype, jnp.floating):
      drawn = 0.02 * abs(numbers.standard_normal(info.shape, np.float32))
      return jnp.asarray(drawn, info.dtype)
    return jnp.ones(info.shape, info.dtype)

  arguments, _ = jax.tree.map(make, lowered.args_info)
  return arguments


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


if __name__ == '__main__':
  main()
