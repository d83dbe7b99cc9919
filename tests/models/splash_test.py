"""The TPU's kernel, interpreted, against plain XLA."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.models import attention, splash
from score_jax.training import sharding


@pytest.mark.parametrize(
  ('length', 'block', 'padded'),
  [
    (130, 256, 256),  # one block
    (512, 512, 512),
    (640, 384, 768),  # 512 would make it 1,024, and 128 be five blocks
    (896, 512, 1024),
    (976, 512, 1024),
    (1408, 512, 1536),
    (2176, 384, 2304),
    (2640, 384, 2688),
  ],
)
def test_blocks_are_large_and_pad_little(length, block, padded):
  assert splash.block_size(length) == block
  assert -(-length // block) * block == padded


@pytest.mark.slow
@pytest.mark.parametrize(
  ('window', 'softcap'), [(None, None), (None, 3.0), (50, 3.0)]
)
def test_values_and_gradients_are_those_of_xla(window, softcap):
  # 520 tokens become two blocks of 384, heads of 10 numbers become 128.
  rng = np.random.default_rng(0)
  *qkv, direction = (
    jnp.asarray(rng.normal(size=(1, 520, n, 10)), jnp.float32)
    for n in (4, 2, 2, 4)
  )

  def both(function):
    out, pull = jax.vjp(function, *qkv)
    return out, pull(direction)

  options = {'window': window, 'softcap': softcap}
  found = both(functools.partial(splash.attend, interpret=True, **options))
  expected = both(functools.partial(attention.attend, **options))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected
  )


# 5 seconds on one core.
@pytest.mark.slow
def test_heads_are_split_where_a_shard_map_splits_the_batch():
  mesh = sharding.make_mesh(jax.devices()[:4], 1, 2, 2)
  rows = jax.sharding.PartitionSpec('fsdp')
  rng = np.random.default_rng(0)
  qkv = [
    jnp.asarray(rng.normal(size=(2, 130, n, 10)), jnp.float32)
    for n in (4, 2, 2)
  ]
  attend = jax.jit(
    jax.shard_map(
      functools.partial(splash.attend, interpret=True),
      mesh=mesh,
      in_specs=rows,
      out_specs=rows,
      axis_names={'fsdp'},
      check_vma=False,
    )
  )
  np.testing.assert_allclose(attend(*qkv), attention.attend(*qkv), atol=2e-5)
  # Each device runs the kernel with half of the query heads.
  assert 'f32[1,2,256,128]' in str(jax.make_jaxpr(attend)(*qkv))
