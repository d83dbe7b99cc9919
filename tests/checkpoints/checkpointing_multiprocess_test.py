"""Two processes save, restore and fall back as one."""

import os
import pathlib
import subprocess
import sys

from tests.support import process_group

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Each process has four devices and half of `split`. Step 2 is damaged before
# both restore.
PROCESS = """
import pathlib, sys
import jax
import numpy as np
from jax.experimental import multihost_utils
from score_jax.checkpoints import checkpointing, checksums

address, process, directory = sys.argv[1:]
jax.distributed.initialize(address, num_processes=2, process_id=int(process))
mesh = jax.sharding.Mesh(np.array(jax.devices()), ('data',))
split = jax.sharding.NamedSharding(mesh, jax.P('data'))
whole = jax.sharding.NamedSharding(mesh, jax.P())

VALUES = np.zeros((8, 4096), 'f')

def make_state(step):
  value = np.random.default_rng(step).normal(size=VALUES.shape).astype('f')
  return {
    name: jax.make_array_from_callback(
      value.shape, sharding, value.__getitem__
    )
    for name, sharding in (('split', split), ('whole', whole))
  }

summed, gathered = [], []
of_shard = checksums.of_shard
allgather = multihost_utils.process_allgather

def count(shard):
  summed.append(shard.data.nbytes)
  return of_shard(shard)

def count_gathered(value, **options):
  gathered.append(np.asarray(value).nbytes)
  return allgather(value, **options)

checksums.of_shard = count
multihost_utils.process_allgather = count_gathered
with checkpointing.Checkpoints(directory, keep=2) as store:
  for step in (1, 2):
    store.save(step, make_state(step))
  # Before writing and after: half of `split`, and `whole` in one process alone.
  half = VALUES.nbytes // 2
  total = sum(summed)
  assert total == 2 * 2 * (half + (2 * half if process == '0' else 0)), summed
  # Checksums are sent between processes, no leaf is.
  assert max(gathered) < half, gathered
  if process == '0':
    for path in pathlib.Path(directory, '2', 'state').rglob('*'):
      if path.is_file():
        path.write_bytes(b'')
  multihost_utils.sync_global_devices('damaged')
  restored = store.restore(make_state(0))
  assert restored.step == 1, restored.step
  for name, expected in make_state(1).items():
    actual = restored.state[name]
    assert actual.sharding == expected.sharding
    for a, b in zip(actual.addressable_shards, expected.addressable_shards):
      np.testing.assert_array_equal(a.data, b.data)
  store.save(2, make_state(2))
  assert store.restore(make_state(0)).step == 2
print('same', flush=True)
"""


def test_two_processes(tmp_path):
  address = process_group.free_address()
  flags = '--xla_force_host_platform_device_count=4'
  processes = [
    subprocess.Popen(
      [sys.executable, '-c', PROCESS, address, str(i), tmp_path],
      cwd=ROOT,
      env=os.environ | {'XLA_FLAGS': flags},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  try:
    outputs = [process.communicate(timeout=120) for process in processes]
  finally:
    for process in processes:
      process.kill()
  for process, (output, errors) in zip(processes, outputs, strict=True):
    assert process.returncode == 0, errors[-3000:]
    assert output.endswith('same\n'), output
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    '1', '2', '2.damaged-1'
  ]  # fmt: skip
