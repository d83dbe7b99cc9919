"""Bytes a device, of shapes and of programs, counted by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import pytest

from experiments.config import groups, schema
from experiments.planning import disk, memory, programs, workload
from score_jax.checkpoints import checkpointing
from score_jax.training import sharding
from tests.support import small_models

_NO_LORA = groups.LoRA()


def _work(lora=_NO_LORA, frozen=jnp.float32, rows=None):
  return workload.Workload(
    model=programs.Model(
      small_models.CONFIGS['gemma1'],
      lora=lora,
      dtype=jnp.bfloat16,
      frozen_dtype=frozen,
      transposed=False,
    ),
    sizes=programs.Sizes(
      problems=8, samples=2, prompt=16, max_new_tokens=(20, 20), separator=4
    ),
    mesh=sharding.make_mesh(jax.devices(), 1, 8, 1),
    episode_options={'compactions': 0, 'segments': 1, 'rows': rows},
    rollout_mesh=sharding.make_mesh(jax.devices(), 8, 1, 1),
    micro_batch=8,
    update_options={},
    steps=1,
    beside=None,
    disk=None,
  )


def test_shapes():
  mesh = sharding.make_mesh(jax.devices(), 2, 2, 2)
  split = jax.sharding.NamedSharding(mesh, P('data', ('fsdp', 'tensor')))
  tree = {
    'split': jax.ShapeDtypeStruct((6, 8), jnp.float32, sharding=split),
    'whole': jax.ShapeDtypeStruct((6, 8), jnp.bfloat16),
  }
  assert memory.of_shapes(tree) == 3 * 2 * 4 + 6 * 8 * 2


# Gemma 1 in miniature: V 61, D 24, 2 layers, 4 heads of 10, 1 kv head, F 40.
_MATRICES = 2 * (24 * 40 + 2 * 24 * 10 + 40 * 24 + 3 * 24 * 40)
_NORMS = (2 * 2 + 1) * 24
_TABLE = 61 * 24


def test_what_a_run_keeps():
  found = memory.resident(_work(frozen=jnp.bfloat16))
  # Over fsdp=8: 24 divides, and so does the embedding's width, where 61 rows do
  # not; norms are whole.
  trained = 4 * ((_MATRICES + _TABLE) // 8 + _NORMS)
  assert found['trained weights'] == trained
  assert found['optimizer'] == 2 * trained + 4  # and a count
  assert found['reference'] == 2 * (_MATRICES + _TABLE) // 8 + 4 * _NORMS
  # Decode has them whole, in bfloat16, norms in float32.
  assert found['decode weights'] == 2 * (_MATRICES + _TABLE) + 4 * _NORMS
  # Keys and values of 16 sequences of 60 tokens, in 64 slots, in 2 layers, a
  # head of 10 each.
  assert found['cache'] == 2 * 2 * (16 * 64 * 10) * 2 // 8


@pytest.mark.parametrize(
  ('rows', 'slots'), [(1, 64 + 16), (2, 2 * 64), (3, 128)]
)
def test_rows_of_the_cache(rows, slots):
  """A device has 2 of the 16 sequences, and once their prompt of 16 tokens."""
  found = memory.resident(_work(rows=rows))
  assert found['cache'] == 2 * 2 * slots * 10 * 2


def test_adapters_instead_of_weights():
  found = memory.resident(
    _work(groups.LoRA(rank=2, targets=('q', 'down')), frozen=jnp.bfloat16)
  )
  # q is 24 x 40, down 40 x 24, in 2 layers. What fsdp splits is the width: A of
  # q and B of down.
  split, whole = 2 * (24 * 2 + 2 * 24), 2 * (2 * 40 + 40 * 2)
  assert found['trained weights'] == 4 * (split // 8 + whole)
  assert found['optimizer'] == 2 * found['trained weights'] + 4
  whole_model = 2 * (_MATRICES + _TABLE) + 4 * _NORMS
  # Decode keeps the adapters beside the weights, in its dtype.
  assert found['decode weights'] == whole_model + 2 * (split + whole)


def test_disk():
  settings = schema.Settings(init_from='x')
  found = disk.needed(settings, small_models.CONFIGS['gemma1'])
  parameters = _MATRICES + _TABLE + _NORMS
  # Weights and two moments in float32; Adam's count, and three scalars.
  assert found.checkpoint == 12 * parameters + 4 * 4
  assert found.policy == 4 * parameters
  assert found.export == 2 * parameters
  # Stage II's newest and the one being written, its best, Stage I's policy.
  assert found.largest == 2 * found.checkpoint + 2 * found.policy
  three = dataclasses.replace(settings, turns=3)
  assert (
    disk.needed(three, small_models.CONFIGS['gemma1']).largest
    == 2 * found.checkpoint + 3 * found.policy
  )
  # An own base policy stays, too; without a stage there are its own two.
  own = disk.needed(schema.Settings(), small_models.CONFIGS['gemma1'])
  assert own.largest == 2 * found.checkpoint + 3 * found.policy
  own = disk.needed(
    schema.Settings(method='base'), small_models.CONFIGS['gemma1']
  )
  assert own.largest == 2 * found.checkpoint


def test_disk_of_adapters():
  lora = groups.LoRA(rank=2, targets=('q', 'down'))
  settings = schema.Settings(init_from='x', lora=lora)
  found = disk.needed(settings, small_models.CONFIGS['gemma1'])
  adapters = 2 * (24 * 2 + 2 * 40 + 40 * 2 + 2 * 24)
  assert found.checkpoint == 12 * adapters + 4 * 4
  assert found.export == 2 * (_MATRICES + _TABLE + _NORMS)


def test_checkpoints_at_one_time(tmp_path):
  """As many as `Checkpoints` keeps of a stage while one is written."""
  state = {'params': {'x': jnp.zeros(9)}, 'moments': jnp.zeros(18)}
  kept = []
  with checkpointing.Checkpoints(tmp_path, is_async=True) as checkpoints:
    for step, score in enumerate([1.0, 0.0, 0.0, 0.0]):
      checkpoints.save(step, state, score=score)
      kept.append(checkpoints.steps())
    checkpoints.wait()
    assert sorted(p.name for p in (tmp_path / '0').iterdir() if p.is_dir()) == [
      'manifest',
      'params',
    ]
    assert checkpoints.steps() == [0, 3]


@pytest.mark.parametrize(
  ('message', 'gib'),
  [
    (
      'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory '
      'in memory space hbm. Used 44.22G of 15.75G hbm. Exceeded hbm capacity',
      44.22,
    ),
    (
      'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required '
      'for HLO temporaries (3.12T) exceeds available HBM (30.75G).',
      3.12 * 1024,
    ),
    ('RESOURCE_EXHAUSTED: for another reason', math.inf),
  ],
)
def test_rejected_programs_say_what_they_need(message, gib):
  needed = memory.of_rejection(message)
  assert needed.peak == pytest.approx(gib * 2**30)


def test_other_errors_are_none_of_memory():
  assert memory.of_rejection('INVALID_ARGUMENT: no such option') is None


def test_compiled_program():
  x = jax.ShapeDtypeStruct((256, 256), jnp.float32)
  compiled = jax.jit(lambda x: (x @ x) @ x).lower(x).compile()
  found = memory.of_compiled(compiled)
  assert found.arguments == 256 * 256 * 4
  # At least one of the two products.
  assert found.temporaries >= 256 * 256 * 4
