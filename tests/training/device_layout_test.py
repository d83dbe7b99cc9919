"""Where a run's arrays lie: what decode reads, with and without adapters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.models import inference, lora, transformer
from score_jax.training import device_layout
from tests.support import small_models

CONFIG = small_models.CONFIGS['gemma2']


ADAPTERS = device_layout.Adapters(rank=2)


def make(**options):
  return device_layout.make(CONFIG, jax.devices()[:1], **options)


# A run evaluates its base policy, which has no adapters, before it trains them.
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('has_adapters', [False, True])
def test_views_of_a_run_with_adapters(dtype, has_adapters):
  made = make(adapters=ADAPTERS, dtype=dtype)
  params = transformer.init_params(CONFIG, jax.random.key(0))
  if has_adapters:
    adapters = made.new_adapters(params, jax.random.key(1))
    assert jax.tree.structure(adapters) == jax.tree.structure(
      made.trained_shapes
    )
    params = lora.attach(params, jax.tree.map(lambda a: a + 0.25, adapters))
  ours = made.inference_params(params)
  expected = inference.inference_params(params, jnp.dtype(dtype))
  assert jax.tree.structure(ours) == jax.tree.structure(expected)
  for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected)):
    np.testing.assert_allclose(
      one.astype(jnp.float32), other.astype(jnp.float32), atol=1e-6
    )


def test_only_products_are_narrow_on_a_cpu():
  wide, narrow = make(), make(dtype='bfloat16')
  assert narrow.config == dataclasses.replace(CONFIG, operands='bfloat16')
  assert narrow.activation_dtype == wide.activation_dtype == jnp.float32
  assert narrow.dtype == jnp.bfloat16
  assert wide.config == CONFIG


def test_without_adapters_all_parameters_are_trained():
  made = make()
  params = transformer.init_params(CONFIG, jax.random.key(0))
  assert jax.tree.structure(made.trained_shapes) == jax.tree.structure(params)
  assert made.trained is made.update.params
