"""Inference params of a policy with adapters: merged, or beside the weights.

That engine and update agree with adapters is in teacher_forcing_test.py.
"""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from score_jax.models import inference, lora
from score_jax.training import sharding
from tests.support import small_models

pytestmark = pytest.mark.usefixtures('quick_compilation')


def _tree(name):
  base = small_models.params(name)
  return lora.attach(base, small_models.adapters(base))


def test_adapters_are_merged_in_float32():
  tree = _tree('gemma2')
  made = inference.inference_params(tree)
  assert lora.adapters_of(made) == {}
  q = tree['pattern']['1']['attention']['q']
  np.testing.assert_allclose(
    made['layers']['1']['attention']['q'],
    q.weight[0] + q.adapter.scale * q.adapter.a[0] @ q.adapter.b[0],
    atol=1e-6,
  )


def test_small_updates_survive_in_bfloat16():
  # Weights as a published checkpoint has them, on bf16's grid, and an update of
  # some 2^-14 of each weight: merged, it changes less than 1 % of them (only
  # those that are small by chance), since bf16 has 8 bits.
  base = jax.tree.map(
    lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32),
    small_models.params('gemma2'),
  )
  adapters = jax.tree.map(
    lambda leaf: 2.0**-7 * leaf, small_models.adapters(base)
  )
  tree = lora.attach(base, adapters)
  q = tree['pattern']['0']['attention']['q']
  product = q.adapter.scale * q.adapter.a @ q.adapter.b
  merged = lora.merge(tree, jnp.bfloat16)['pattern']['0']['attention']['q']
  moved = (merged != q.weight.astype(jnp.bfloat16)).mean()
  assert (product != 0).all()
  assert moved < 0.05
  # The inference params keep it, to the rounding of A and B themselves.
  made = inference.inference_params(tree, jnp.bfloat16)
  kept = made['layers']['0']['attention']['q'].adapter
  assert kept.a.dtype == kept.b.dtype == jnp.bfloat16
  found = kept.scale * kept.a.astype(jnp.float32) @ kept.b.astype(jnp.float32)
  np.testing.assert_allclose(
    found, product[0], atol=2.0**-7 * np.abs(product).max()
  )


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_inference_params_on_eight_devices(dtype):
  tree = _tree('gemma2')
  config = small_models.CONFIGS['gemma2']
  mesh = sharding.make_mesh(jax.devices(), 2, 2, 2)
  adapters = lora.adapters_of(tree)
  placed = lora.attach(
    jax.device_put(lora.base_of(tree), sharding.param_shardings(config, mesh)),
    jax.device_put(
      adapters, sharding.adapter_shardings(config, mesh, adapters)
    ),
  )
  is_merged = dtype == jnp.float32
  where = sharding.rollout_shardings(
    config, mesh, None if is_merged else adapters
  ).params
  q = where['layers']['2']['attention']['q']
  if not is_merged:
    assert q.adapter.a.spec == P(None, None)
    assert q.adapter.b.spec == P(None, 'tensor')
  made = jax.jit(
    lambda tree: inference.inference_params(tree, dtype), out_shardings=where
  )(placed)
  expected = inference.inference_params(tree, dtype)
  assert jax.tree.structure(made) == jax.tree.structure(expected)
  for one, other in zip(jax.tree.leaves(made), jax.tree.leaves(expected)):
    np.testing.assert_allclose(
      one.astype(jnp.float32), other.astype(jnp.float32), atol=1e-6
    )
