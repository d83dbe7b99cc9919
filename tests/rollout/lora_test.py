"""Episodes of a policy with adapters: engine and update still agree."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from score_jax.models import inference, lora
from score_jax.training import sharding
from tests.support import small_models


def _tree(name, **options):
  base = small_models.params(name)
  return lora.attach(base, small_models.adapters(base, **options))


def _gap(name, tree, dtype):
  """Largest difference at a sampled token, in nats, of the attached policy."""
  trajectory = small_models.run(
    name,
    2,
    temperature=0.7,
    params=inference.inference_params(tree, dtype),
    dtype=dtype,
    cache_dtype=dtype,
  )
  expected = small_models.teacher_forced(
    small_models.CONFIGS[name], tree, trajectory, 0.7, dtype
  )
  assert float(trajectory.logprobs.min()) < -1.0
  return np.abs(expected - trajectory.logprobs).max()


@pytest.mark.parametrize('name', list(small_models.CONFIGS))
def test_decode_agrees_with_the_update(name):
  # Merged in the view, attached in the update.
  assert _gap(name, _tree(name), jnp.float32) < 1e-4


def test_decode_agrees_in_bfloat16():
  # Attached in both. The bound of teacher_forcing_test, where no adapters are:
  # measured 0.10 nats.
  assert _gap('gemma2', _tree('gemma2'), jnp.bfloat16) < 0.16


def test_float32_views_are_merged():
  tree = _tree('gemma2')
  view = inference.inference_params(tree)
  assert lora.adapters_of(view) == {}
  q = tree['pattern']['1']['attention']['q']
  np.testing.assert_allclose(
    view['layers']['1']['attention']['q'],
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
  # The view keeps it, to the rounding of A and B themselves.
  view = inference.inference_params(tree, jnp.bfloat16)
  kept = view['layers']['0']['attention']['q'].adapter
  assert kept.a.dtype == kept.b.dtype == jnp.bfloat16
  found = kept.scale * kept.a.astype(jnp.float32) @ kept.b.astype(jnp.float32)
  np.testing.assert_allclose(
    found, product[0], atol=2.0**-7 * np.abs(product).max()
  )


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_views_over_eight_devices(dtype):
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
  view = jax.jit(
    lambda tree: inference.inference_params(tree, dtype), out_shardings=where
  )(placed)
  expected = inference.inference_params(tree, dtype)
  assert jax.tree.structure(view) == jax.tree.structure(expected)
  for one, other in zip(jax.tree.leaves(view), jax.tree.leaves(expected)):
    np.testing.assert_allclose(
      one.astype(jnp.float32), other.astype(jnp.float32), atol=1e-6
    )
