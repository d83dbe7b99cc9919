"""Peak rates of one core of this machine: f32 matrix products, and copies.

Run as a program, alone in its process and with one thread, it prints both:
FLOPs of products and bytes copied (read and written) in a CPU second.
"""

import json
import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

# Rows, depth, columns: a square, and a model's.
_SHAPES = ((1024, 1024, 1024), (2048, 512, 2048), (1536, 64, 256))
_COPIED = 2**27


def measure() -> tuple[float, float]:
  """FLOPs and bytes in a CPU second of one core."""
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


def _best(function, repeats: int = 5, calls: int = 20) -> float:
  function()
  times = []
  for _ in range(repeats):
    # Of several calls: CPU time is counted coarsely on a busy machine.
    start = time.process_time()
    for _ in range(calls):
      function()
    times.append((time.process_time() - start) / calls)
  return min(times)


if __name__ == '__main__':
  print(json.dumps([_products(), _copies()]))
