"""Import of a simulated Gemma checkpoint: peak memory and time.

    python -m experiments.benchmark gemma_import --model=gemma-2-2b

A checkpoint of random bfloat16 weights with the real shapes, in many files, is
written to a temporary directory and read back, for each dtype in a process of
its own, so that its peak is its own. The files are deleted afterwards.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import json
import math
import pathlib
import tempfile
import time
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from experiments.benchmarks import process_memory
from experiments.config import command_line
from score_jax.interop import (
  checkpoint_formats,
  hugging_face_description,
  hugging_face_weights,
  orbax_import,
  param_builder,
)
from score_jax.models import gemma, model_config

_MIB = 2**20
_EXPONENT = 0x3C00  # of numbers from 1/128 to 1/64


@dataclasses.dataclass(frozen=True)
class Options:
  """Measures the import of random weights.

  Attributes:
    model: one of the published sizes, such as gemma-2-2b.
    layers: layers of it; 0: all.
    format: Hugging Face's, or Google's on Kaggle.
    dtypes: of the parameters; one import each.
    max_file_mb: weights in one safetensors file, in 10**6 bytes.
    directory: where the checkpoint is written, below a name of its own.
  """

  model: str = 'gemma-2-2b'
  layers: int = 0
  format: Literal['hugging_face', 'orbax'] = 'hugging_face'
  dtypes: tuple[Literal['bfloat16', 'float32'], ...] = ('bfloat16', 'float32')
  max_file_mb: int = 500
  directory: str | None = None

  @property
  def config(self) -> model_config.ModelConfig:
    """The model."""
    config = gemma.CONFIGS[self.model]
    if self.layers:
      config = dataclasses.replace(config, num_layers=self.layers)
    return config


def main(arguments: Sequence[str] | None = None) -> int:
  """Writes the checkpoint, imports it, prints a table a dtype."""
  options = command_line.parse(
    Options,
    arguments,
    program='experiments.benchmark gemma_import',
    document=__doc__,
  )
  with tempfile.TemporaryDirectory(dir=options.directory) as directory:
    path = str(pathlib.Path(directory) / 'checkpoint')
    process_memory.run_alone(write, options, path)
    for dtype in options.dtypes:
      process_memory.run_alone(measure, options, path, dtype)
  return 0


def write(options: Options, path: str) -> None:
  """Writes the checkpoint."""
  writers = {'hugging_face': _write_hugging_face, 'orbax': _write_orbax}
  start = time.perf_counter()
  writers[options.format](options, pathlib.Path(path))
  files = [p for p in pathlib.Path(path).rglob('*') if p.is_file()]
  size = sum(file.stat().st_size for file in files)
  print(
    f'{options.format} checkpoint of {options.model}: {len(files)} files, '
    f'{size / _MIB:,.0f} MiB, written in {time.perf_counter() - start:.0f} s',
    flush=True,
  )


def _write_hugging_face(options: Options, path: pathlib.Path) -> None:
  config = options.config
  path.mkdir()
  description = hugging_face_description.describe(
    config, rows=config.vocab_size, dtype=jnp.bfloat16
  )
  (path / 'config.json').write_text(json.dumps(description))
  shapes = hugging_face_weights.shapes(config, config.vocab_size)
  numbers = np.random.default_rng(0)

  def blocks(name: str) -> Iterator[np.ndarray]:
    first, *rest = shapes[name]
    row_bytes = 2 * math.prod(rest)
    for start, stop in param_builder.row_blocks(first, row_bytes):
      yield _random(numbers, (stop - start, *rest))

  hugging_face_weights.write(
    path, shapes, jnp.bfloat16, blocks, options.max_file_mb * 10**6
  )


def _write_orbax(options: Options, path: pathlib.Path) -> None:
  numbers = np.random.default_rng(0)
  tree = {}
  for name, shape in orbax_import.tensor_shapes(options.config).items():
    parent, _, last = f'transformer/{name}'.rpartition('/')
    if '/mlp/' in name:
      parent, last = f'{parent}/{last}', 'w'
    tree.setdefault(parent, {})[last] = _random(numbers, shape)
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    checkpointer.save(path, args=ocp.args.PyTreeSave(tree))


def _random(numbers: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
  """bfloat16 numbers of random sign and fraction, made quickly."""
  bits = numbers.integers(0, 2**16, shape, np.uint16)
  return ((bits & 0x807F) | _EXPONENT).view(jnp.bfloat16)


def measure(options: Options, path: str, dtype: str) -> None:
  """Imports the checkpoint and prints time and memory."""
  jax.config.update('jax_platforms', 'cpu')
  jnp.zeros(1).block_until_ready()
  before = process_memory.now()
  process_memory.forget_peak()
  start, cpu = time.perf_counter(), time.process_time()
  params = checkpoint_formats.load(path, options.config, dtype=jnp.dtype(dtype))
  jax.block_until_ready(params)
  seconds = time.perf_counter() - start
  cpu_seconds = time.process_time() - cpu
  leaves = jax.tree.leaves(params)
  result = sum(leaf.nbytes for leaf in leaves)
  largest = 2 * options.config.vocab_size * options.config.width
  peak = process_memory.peak()
  print(f'import in {dtype}: {seconds:.0f} s, {cpu_seconds:.0f} CPU s')
  for name, size in {
    'result': result,
    'before (Python, jax)': before,
    'peak': peak,
    'peak beyond result and before': peak - result - before,
    'largest tensor of the files, the embedding': largest,
    'largest stacked leaf': max(leaf.nbytes for leaf in leaves),
  }.items():
    print(f'  {name:44} {size / _MIB:8,.0f} MiB')


if __name__ == '__main__':
  main()
