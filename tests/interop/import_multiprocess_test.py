"""Two processes import a checkpoint, each its shards; neither exports it."""

from score_jax.interop import hugging_face_export
from tests.support import exports, gm_checkpoints, process_group

# Each process has two of the four devices that every leaf is sharded over,
# where one of its axes divides.
PROCESS = """
import sys
import jax
import numpy as np
from score_jax.interop import checkpoint_formats, hugging_face_export
from tests.support import exports

address, process, vocab_size, tokenizer, *paths = sys.argv[1:]
jax.distributed.initialize(address, num_processes=2, process_id=int(process))
config = exports.model_config_of('gemma3', int(vocab_size))
expected = jax.tree.map(np.asarray, exports.random_params(config))
mesh = jax.sharding.Mesh(np.array(jax.devices()), ('fsdp',))

def sharding(leaf):
  axes = [i for i, size in enumerate(leaf.shape) if size % 4 == 0]
  spec = [None] * leaf.ndim
  if axes:
    spec[axes[-1]] = 'fsdp'
  return jax.sharding.NamedSharding(mesh, jax.P(*spec))

shardings = jax.tree.map(sharding, expected)
for path in paths:
  found = checkpoint_formats.load(path, config, shardings=shardings)
  sharded = 0
  for a, b in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    for shard in a.addressable_shards:
      np.testing.assert_array_equal(shard.data, b[shard.index])
    sharded += not a.is_fully_replicated
  assert sharded > 10, sharded
  assert not found['embedding'].is_fully_addressable
try:
  hugging_face_export.export(
    paths[0] + '-again',
    config,
    found,
    tokenizer_path=tokenizer,
    chat_style='gemma',
  )
except ValueError as error:
  assert 'several processes' in str(error)
else:
  raise AssertionError('one process wrote what only two of them hold')
print('same', flush=True)
"""


def test_two_processes(tmp_path):
  model = exports.make('gemma3')
  orbax = gm_checkpoints.write(tmp_path / 'o', model.config, model.params)
  hugging_face = hugging_face_export.export(
    tmp_path / 'h',
    model.config,
    model.params,
    tokenizer_path=model.tokenizer,
    chat_style='gemma',
    dtype='float32',
  )
  arguments = (model.config.vocab_size, model.tokenizer, orbax, hugging_face)
  for process in process_group.run(
    '-c', PROCESS, '{address}', '{index}', *map(str, arguments), joined=False
  ):
    assert process.output.endswith('same\n'), process.output
