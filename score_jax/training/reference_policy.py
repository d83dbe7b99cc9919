"""The reference policy's weights: their dtype, and offloading to the host.

Every loss is KL-anchored to a fixed policy, whose weights a run holds beside
the trained ones. In bfloat16 they take half the memory; in host memory they
take the device's only while a program reads them. With adapters
(models/lora.py) there is no copy: the reference is the adapters' base.
"""

from typing import Any

import jax

from score_jax.models import transformer

# The fastest to copy from comes first.
_HOST_KINDS = ('pinned_host', 'unpinned_host')


def make_reference(
  params: Any, *, dtype: Any = None, offload: bool = False
) -> Any:
  """The reference policy with these weights, sharded as they are.

  In the activations' dtype, or a wider one, its log-probabilities are bit for
  bit those of float32 weights: `forward` casts matrices to the activations'
  dtype anyway, and norm scales stay in float32.

  Args:
    params: the policy, on the device or the host; arrays that do not change
      are shared, not copied.
    dtype: of the matrices; None: unchanged.
    offload: to host memory, from which `on_device` copies it. On a CPU both
      are the same memory.

  Raises:
    ValueError: the devices have no host memory.
  """
  if dtype is not None:
    params = transformer.cast(on_device(params), dtype)
  return jax.tree.map(_to_host, params) if offload else params


def on_device(reference: Any) -> Any:
  """The reference in device memory; copied only if it was offloaded."""
  return jax.tree.map(_to_device, reference)


def _to_host(leaf: jax.Array) -> jax.Array:
  device = next(iter(leaf.sharding.addressable_devices))
  kinds = [memory.kind for memory in device.addressable_memories()]
  kind = next((kind for kind in _HOST_KINDS if kind in kinds), None)
  if kind is None:
    raise ValueError(
      f'{device.platform} devices have no host memory to offload the reference '
      f'policy to (they have {", ".join(kinds)}): leave offload off, and halve '
      'the reference with dtype=bfloat16 instead'
    )
  return jax.device_put(leaf, leaf.sharding.with_memory_kind(kind))


def _to_device(leaf: jax.Array) -> jax.Array:
  device = next(iter(leaf.sharding.addressable_devices))
  kind = device.default_memory().kind
  if leaf.sharding.memory_kind in (None, kind):
    return leaf
  return jax.device_put(leaf, leaf.sharding.with_memory_kind(kind))
