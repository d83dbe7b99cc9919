"""Rows that are spread over devices and processes.

Every process knows all problems, and so every argument of a program as a whole;
of what programs return, a process sees the rows on its own devices.
"""

import math
from typing import Any

import jax
from jax import sharding as jax_sharding


def row_parts(sharding: jax_sharding.NamedSharding) -> int:
  """Into how many parts it splits the first dimension."""
  axes = sharding.spec[0] if sharding.spec else None
  names = axes if isinstance(axes, tuple) else (axes,) if axes else ()
  return math.prod(sharding.mesh.shape[name] for name in names)


def put_rows(tree: Any, sharding: jax_sharding.NamedSharding) -> Any:
  """Arrays [B, ...] on the devices of their rows.

  Arrays whose rows do not divide lie whole on every device: right, and of use
  for small ones only.
  """
  parts = row_parts(sharding)
  whole = jax_sharding.NamedSharding(
    sharding.mesh, jax_sharding.PartitionSpec()
  )
  return jax.tree.map(
    lambda x: jax.device_put(x, whole if x.shape[0] % parts else sharding),
    tree,
  )
