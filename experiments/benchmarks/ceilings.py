"""What a core of this machine can do at best: f32 products, and copies.

Run as a program, alone in its process and with one thread, it prints both: a
product's FLOPs and a copy's bytes (read and written) a CPU second.
"""

import json
import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

# Rows, depth, columns: a square, and what a model has.
_SHAPES = ((1024, 1024, 1024), (2048, 512, 2048), (1536, 64, 256))
_COPIED = 2**27


def measure() -> tuple[float, float]:
  """FLOPs and bytes a CPU second of one core."""
  environment = os.environ | {
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': '--xla_cpu_multi_thread_eigen=false',
  }
  out = subprocess.run(
    [sys.executable, '-m', 'experiments.benchmarks.ceilings'],
    env=environment,
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  products, copies = json.loads(out)
  return products, copies


def _products() -> float:
  rates = []
  for m, k, n in _SHAPES:
    x, y = jnp.ones((m, k)), jnp.ones((k, n))
    multiply = jax.jit(jnp.matmul)
    seconds = _best(lambda x=x, y=y, f=multiply: f(x, y).block_until_ready())
    rates.append(2 * m * k * n / seconds)
  return max(rates)


def _copies() -> float:
  x = np.ones(_COPIED, np.uint8)
  y = np.empty_like(x)
  return 2 * _COPIED / _best(lambda: np.copyto(y, x))


def _best(function, repeats: int = 20) -> float:
  function()
  times = []
  for _ in range(repeats):
    start = time.process_time()
    function()
    times.append(time.process_time() - start)
  return min(times)


if __name__ == '__main__':
  print(json.dumps([_products(), _copies()]))
