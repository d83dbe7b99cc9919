"""The reference's weights in bfloat16 or on the host are the same policy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.models import lora
from score_jax.training import (
  device_layout,
  reference_policy,
  teacher_forcing,
)
from tests.support import small_batch, small_models

pytestmark = pytest.mark.usefixtures('quick_compilation')

NAME = 'gemma3'


@pytest.fixture(scope='module')
def logprobs():
  """(weights, activations' dtype) -> log-probabilities of some sequences."""
  rng = np.random.default_rng(0)
  batch = small_batch.make_batch()
  trajectory = batch.trajectory.replace(
    tokens=jnp.asarray(rng.integers(0, small_models.VOCAB, (8, 12)), jnp.int32)
  )
  made = {
    dtype: teacher_forcing.make_reference_logprobs(
      device_layout.make(
        small_models.CONFIGS[NAME], jax.devices()[:1], dtype=dtype
      )
    )
    for dtype in (jnp.float32, jnp.bfloat16)
  }
  return lambda params, dtype: np.asarray(made[dtype](params, trajectory))


def test_nothing_changes_by_default():
  params = small_models.params(NAME)
  for same in (
    reference_policy.make_reference(params),
    reference_policy.make_reference(params, dtype=jnp.float32),
    reference_policy.on_device(params),
  ):
    pairs = zip(jax.tree.leaves(same), jax.tree.leaves(params), strict=True)
    assert all(a is b for a, b in pairs)


def test_narrow_weights_are_the_same_reference(logprobs):
  params = small_models.params(NAME)
  narrow = reference_policy.make_reference(params, dtype=jnp.bfloat16)
  wide, halved = (
    sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    for tree in (params, narrow)
  )
  # All but the norm scales: 3 layers of 4 x 24 and 2 x 10, and 24 at the end.
  assert wide - halved == (wide - 4 * (3 * (4 * 24 + 2 * 10) + 24)) / 2
  # Activations in bf16: not a bit is lost. In f32 the rounding of the weights
  # is seen, which is why float32 is the default there.
  np.testing.assert_array_equal(
    logprobs(narrow, jnp.bfloat16), logprobs(params, jnp.bfloat16)
  )
  gap = logprobs(narrow, jnp.float32) - logprobs(params, jnp.float32)
  assert 1e-4 < np.abs(gap).max() < 0.1


def test_frozen_weights_of_adapters_may_be_narrow():
  params = small_models.params(NAME)
  adapters = small_models.adapters(params)
  narrow = reference_policy.make_reference(
    lora.attach(params, adapters), dtype=jnp.bfloat16
  )
  q = narrow['pattern']['0']['attention']['q']
  assert q.weight.dtype == jnp.bfloat16
  assert lora.base_of(narrow)['final_norm']['scale'].dtype == jnp.float32


def test_an_offloaded_reference_waits_on_the_host(logprobs):
  params = small_models.params(NAME)
  waiting = reference_policy.make_reference(params, offload=True)
  for leaf in jax.tree.leaves(waiting):
    assert leaf.sharding.memory_kind == 'pinned_host'
  for _ in range(2):  # between uses it stays where it is
    here = reference_policy.on_device(waiting)
    for leaf, original in zip(jax.tree.leaves(here), jax.tree.leaves(params)):
      assert leaf.sharding == original.sharding
    np.testing.assert_array_equal(
      logprobs(here, jnp.float32), logprobs(params, jnp.float32)
    )
    del here
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(waiting))


def test_an_offloaded_policy_may_become_a_reference():
  params = small_models.params(NAME)
  waiting = reference_policy.make_reference(params, offload=True)
  narrow = reference_policy.make_reference(
    waiting, dtype=jnp.bfloat16, offload=True
  )
  expected = reference_policy.make_reference(params, dtype=jnp.bfloat16)
  for leaf, other in zip(jax.tree.leaves(narrow), jax.tree.leaves(expected)):
    assert leaf.sharding.memory_kind == 'pinned_host'
    assert leaf.dtype == other.dtype
    np.testing.assert_array_equal(leaf, other)


def test_it_is_sharded_as_the_policy():
  axis = jax.sharding.AxisType.Auto
  mesh = jax.make_mesh((8,), ('fsdp',), axis_types=(axis,))

  def shard(leaf):
    names = ['fsdp' if size % 8 == 0 else None for size in leaf.shape[-1:]]
    spec = jax.sharding.PartitionSpec(*[None] * (leaf.ndim - 1), *names)
    return jax.device_put(leaf, jax.sharding.NamedSharding(mesh, spec))

  params = jax.tree.map(shard, small_models.params(NAME))
  waiting = reference_policy.make_reference(
    params, dtype=jnp.bfloat16, offload=True
  )
  for host, leaf, original in zip(
    jax.tree.leaves(waiting),
    jax.tree.leaves(reference_policy.on_device(waiting)),
    jax.tree.leaves(params),
  ):
    assert host.sharding.spec == original.sharding.spec
    assert leaf.sharding == original.sharding
    np.testing.assert_array_equal(leaf, original.astype(leaf.dtype))
  assert waiting['embedding'].sharding.spec == jax.sharding.PartitionSpec(
    None, 'fsdp'
  )


def test_devices_without_host_memory_are_named(monkeypatch):
  monkeypatch.setattr(reference_policy, '_HOST_KINDS', ('another_kind',))
  with pytest.raises(ValueError, match='cpu'):
    reference_policy.make_reference(small_models.params(NAME), offload=True)
