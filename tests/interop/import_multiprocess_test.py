"""Two processes import a checkpoint, each its shards; neither exports it."""

import os
import pathlib
import socket
import subprocess
import sys

import pytest

from score_jax.interop import hugging_face_export
from tests.support import exports, gm_checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Each process has two of the four devices that every leaf is spread over, where
# one of its axes divides.
PROCESS = """
import sys
import jax
import numpy as np
from score_jax.models import checkpoint_formats, hugging_face_export
from tests import exports

address, process, path, vocab_size, tokenizer = sys.argv[1:]
jax.distributed.initialize(address, num_processes=2, process_id=int(process))
config = exports.model_config_of('gemma3', int(vocab_size))
expected = jax.tree.map(np.asarray, exports.random_params(config))
mesh = jax.sharding.Mesh(np.array(jax.devices()), ('fsdp',))

def place(leaf):
  axes = [i for i, size in enumerate(leaf.shape) if size % 4 == 0]
  spec = [None] * leaf.ndim
  if axes:
    spec[axes[-1]] = 'fsdp'
  return jax.sharding.NamedSharding(mesh, jax.P(*spec))

shardings = jax.tree.map(place, expected)
found = checkpoint_formats.load(path, config, shardings=shardings)
spread = 0
for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
  for shard in a.addressable_shards:
    np.testing.assert_array_equal(shard.data, b[shard.index])
  spread += not a.is_fully_replicated
assert spread > 10, spread
assert not found['embedding'].is_fully_addressable
try:
  hugging_face_export.export(
    path + '-again',
    config,
    found,
    tokenizer_path=tokenizer,
    chat_style='gemma',
  )
except ValueError as error:
  assert 'is spread over several processes; export from one' in str(error)
else:
  raise AssertionError('one process wrote what only two of them hold')
print('same', flush=True)
"""


@pytest.mark.parametrize('kind', ['hugging_face', 'orbax'])
def test_two_processes(kind, tmp_path):
  model = exports.make('gemma3', tmp_path)
  path = tmp_path / 'checkpoint'
  if kind == 'orbax':
    gm_checkpoints.write(path, model.config, model.params)
  else:
    hugging_face_export.export(
      path,
      model.config,
      model.params,
      tokenizer_path=model.tokenizer,
      chat_style='gemma',
      dtype='float32',
    )
  with socket.socket() as free:
    free.bind(('localhost', 0))
    address = f'localhost:{free.getsockname()[1]}'
  flags = '--xla_force_host_platform_device_count=2'
  arguments = (path, str(model.config.vocab_size), model.tokenizer)
  processes = [
    subprocess.Popen(
      [sys.executable, '-c', PROCESS, address, str(i), *arguments],
      cwd=ROOT,
      env=os.environ | {'XLA_FLAGS': flags},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  try:
    outputs = [process.communicate(timeout=240) for process in processes]
  finally:
    for process in processes:
      process.kill()
  for process, (output, errors) in zip(processes, outputs, strict=True):
    assert process.returncode == 0, errors[-3000:]
    assert output.endswith('same\n'), output
