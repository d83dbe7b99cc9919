"""Attention of whole rows by JAX's Pallas kernel for TPUs, splash attention.

Nothing of size S x S leaves the chip's vector memory, forward or backward.
"""

import functools

import jax
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_kernel,
  splash_attention_mask,
)
import jax.numpy as jnp
from jax.sharding import PartitionSpec

# A TPU's lanes: rows and head dimensions are padded to a multiple.
_LANES = 128
# Blocks of queries and keys in vector memory; no row needs larger ones.
_LARGEST_BLOCK = 512


def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  *,
  window: int | None = None,
  softcap: float | None = None,
  rows: jax.sharding.NamedSharding | None = None,
  interpret: bool = False,
) -> jax.Array:
  """As `attention.attend`.

  Args:
    q: scaled queries [B, S, N, H].
    k: [B, S, K, H].
    v: [B, S, K, H].
    window: keys a query sees, its own included; None: all before it.
    softcap: c in c * tanh(score / c), applied before the mask.
    rows: where rows lie on several devices. Where its mesh has an axis
      `tensor` that divides K, heads lie there.
    interpret: run on any platform, slowly.

  Returns:
    [B, S, N, H] in q's dtype.
  """
  apply = functools.partial(
    _of_rows, window=window, softcap=softcap, interpret=interpret
  )
  if rows is None:
    return apply(q, k, v)
  spread = _spread(rows, k.shape[2])
  # The kernel's outputs do not say how they vary over the mesh.
  return jax.shard_map(
    apply,
    mesh=rows.mesh,
    in_specs=(spread,) * 3,
    out_specs=spread,
    check_vma=False,
  )(q, k, v)


def _spread(rows, num_kv_heads):
  parts = rows.mesh.shape.get('tensor', 1)
  heads = 'tensor' if parts > 1 and num_kv_heads % parts == 0 else None
  return PartitionSpec(rows.spec[0], None, heads, None)


def _of_rows(q, k, v, *, window, softcap, interpret):
  """The rows and heads of one device."""
  length, heads, head_dim = q.shape[1:]
  q, k, v = (_padded(jnp.swapaxes(x, 1, 2)) for x in (q, k, v))
  kernel = _kernel(q.shape[2], heads, window, softcap, interpret)
  out = jax.vmap(kernel)(q, k, v)  # [B, N, S, H]
  return jnp.swapaxes(out, 1, 2)[:, :length, :, :head_dim].astype(q.dtype)


def _padded(x):
  """[B, N, S, H] with zeros after its rows' ends and its heads' ends.

  Added keys come after all queries that count, and added zeros in heads change
  neither scores nor the part of the result that counts.
  """
  pads = [(0, -size % _LANES) for size in x.shape[2:]]
  return jnp.pad(x, ((0, 0), (0, 0), *pads))


def _kernel(length, heads, window, softcap, interpret):
  # Blocks must divide the row.
  block = max(
    size
    for size in range(_LANES, min(length, _LARGEST_BLOCK) + 1, _LANES)
    if length % size == 0
  )
  mask = splash_attention_mask.LocalMask(
    (length, length), (window - 1 if window else None, 0), offset=0
  )
  return splash_attention_kernel.make_splash_mha(
    splash_attention_mask.MultiHeadMask([mask] * heads),
    block_sizes=splash_attention_kernel.BlockSizes(
      block_q=block,
      block_kv=block,
      block_q_dkv=block,
      block_kv_dkv=block,
      block_q_dq=block,
      block_kv_dq=block,
    ),
    head_shards=1,
    q_seq_shards=1,
    attn_logits_soft_cap=softcap,
    interpret=interpret,
  )
