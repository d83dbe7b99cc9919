"""The reference policy's weights: how wide, and where they wait between uses.

The KL of every loss is to a fixed policy, whose weights a run must hold beside
the trained ones. A copy in bfloat16 takes half their memory; in host memory it
takes the device's only while a program reads it. With adapters (models/lora.py)
none is needed: the reference is the weights that the adapters belong to.
"""

from typing import Any

import jax

from score_jax.models import transformer

# The fastest to copy from first.
_HOST_KINDS = ('pinned_host', 'unpinned_host')


def make_reference(
  params: Any, *, dtype: Any = None, offload: bool = False
) -> Any:
  """The reference policy with these weights, sharded as they are.

  With the activations' dtype, or a wider one, the reference's log-probabilities
  are the same bit for bit as from float32 weights: matrices are cast to the
  activations' dtype where they are used, and norm scales stay as they are.

  Args:
    params: the policy to hold to, wherever it is; shared, not copied, where
      nothing changes.
    dtype: of the matrices; None: as they are.
    offload: keep it in host memory; `on_device` brings it to where programs
      read it. On a CPU that is the same memory.

  Raises:
    ValueError: the devices have no memory on the host.
  """
  if dtype is not None:
    params = transformer.cast(on_device(params), dtype)
  return jax.tree.map(_to_host, params) if offload else params


def on_device(reference: Any) -> Any:
  """The reference in device memory, for as long as the caller keeps it."""
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
