"""Attention of whole sequences by JAX's Pallas kernel for TPUs, splash.

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

# A TPU's lanes: lengths and head dimensions are padded to a multiple.
_LANES = 128
# Blocks of queries and keys in vector memory, in tokens: the larger, the less
# often keys are read again.
_BLOCKS = (512, 384, 256)


def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  *,
  window: int | None = None,
  softcap: float | None = None,
  sharding: jax.sharding.NamedSharding | None = None,
  interpret: bool = False,
) -> jax.Array:
  """Computes `attention.attend` with the TPU kernel.

  Args:
    q: scaled queries [B, S, N, H].
    k: [B, S, K, H].
    v: [B, S, K, H].
    window: keys a query sees, its own included; None: all before it.
    softcap: c in c * tanh(score / c), applied before the mask.
    sharding: of the batch axis over several devices; None: it is not split, or
      a `shard_map` around splits it. If the mesh has an axis `tensor` that
      divides K, heads are sharded over it.
    interpret: run the kernel on any platform, slowly.

  Returns:
    [B, S, N, H] in q's dtype.
  """
  apply = functools.partial(
    _on_device, window=window, softcap=softcap, interpret=interpret
  )
  if sharding is None:
    mesh, batch = jax.sharding.get_abstract_mesh(), None
    axes = set(mesh.axis_names) - set(mesh.manual_axes)
  else:
    mesh, batch = sharding.mesh, sharding.spec[0]
    axes = set(mesh.axis_names)
  if not axes:
    return apply(q, k, v)
  spec = PartitionSpec(batch, None, _heads_axis(mesh, k.shape[2]), None)
  # GSPMD cannot partition a kernel, so each device runs its own. check_vma off:
  # the kernel's outputs do not declare the mesh axes they vary over.
  return jax.shard_map(
    apply,
    mesh=mesh,
    axis_names=axes,
    in_specs=(spec,) * 3,
    out_specs=spec,
    check_vma=False,
  )(q, k, v)


def _heads_axis(mesh, num_kv_heads):
  """Axis that heads are split over, of q and k alike: groups stay whole."""
  parts = mesh.shape.get('tensor', 1)
  return 'tensor' if parts > 1 and num_kv_heads % parts == 0 else None


def _on_device(q, k, v, *, window, softcap, interpret):
  """Attention of the sequences and heads of one device."""
  length, heads, head_dim = q.shape[1:]
  block = block_size(length)
  q, k, v = (_padded(jnp.swapaxes(x, 1, 2), block) for x in (q, k, v))
  kernel = _kernel(q.shape[2], block, heads, window, softcap, interpret)
  out = jax.vmap(kernel)(q, k, v)  # [B, N, S, H]
  return jnp.swapaxes(out, 1, 2)[:, :length, :, :head_dim].astype(q.dtype)


def block_size(length: int) -> int:
  """Tokens of a block, of which sequences of this length are padded multiples.

  One block where that is at most the largest; else the size that pads least,
  and of equals the largest. Only attention computes what is padded here.
  """
  if length <= _BLOCKS[0]:
    return length + -length % _LANES
  return min(_BLOCKS, key=lambda size: (-length % size, -size))


def _padded(x, block):
  """Pads S of [B, N, S, H] to whole blocks and H to lanes, with zeros.

  Padded keys come after all real queries, so causality hides them; zeros in the
  head dimension change no score, and the result is cut to its real part.
  """
  pads = (0, -x.shape[2] % block), (0, -x.shape[3] % _LANES)
  return jnp.pad(x, ((0, 0), (0, 0), *pads))


def _kernel(length, block, heads, window, softcap, interpret):
  # Masks are lazy: blocks that no query sees are skipped, never materialised.
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
