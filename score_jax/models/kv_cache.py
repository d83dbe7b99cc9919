"""The key-value cache: its layout, its rings, and attention over it.

This file alone knows how keys and values lie in memory. Global layers keep a
slot per position of the row; local layers keep a ring of their window, slot =
position mod ring length. Masks come from the position stored with each slot
(-1: empty), never from a token's value. Writes are scatters at each row's own
slot, which compile to updates in place.
"""

from collections.abc import Sequence

from flax import struct
import jax
import jax.numpy as jnp

from score_jax.models import model_config

# As small as float32 allows without overflow when a softmax subtracts it.
_MASKED = -2.3819763e38


@struct.dataclass
class Keys:
  """Keys and values of one layer, some of them not to be seen.

  Attributes:
    k: [B, K, H, S] if `transposed` (what CPU matmuls read without a copy),
      else [B, S, K, H].
    v: [B, K, S, H] if `transposed`, else [B, S, K, H].
    transposed: the layout.
  """

  k: jax.Array
  v: jax.Array
  transposed: bool = struct.field(pytree_node=False, default=False)

  @property
  def num_slots(self) -> int:
    """S."""
    return self.k.shape[3] if self.transposed else self.k.shape[1]


@struct.dataclass
class KVCache:
  """Cache of all layers.

  Attributes:
    layers: one `Keys` a layer.
    positions: for each layer kind in use, the position held by each slot, i32
      [B, S of the kind], -1 where empty.
  """

  layers: tuple[Keys, ...]
  positions: dict[str, jax.Array]


def default_transposed() -> bool:
  """Whether this platform's matmuls want the transposed layout."""
  return jax.default_backend() == 'cpu'


def ring_length(config: model_config.ModelConfig, length: int, block: int):
  """Slots of a local layer: its window and a block, if less than the row."""
  return min(length, config.window + block - 1) if config.window else length


def of_block(k: jax.Array, v: jax.Array, transposed: bool) -> Keys:
  """Keys and values [B, S, K, H] of a block, in a layout."""
  if transposed:
    k, v = jnp.transpose(k, (0, 2, 3, 1)), jnp.transpose(v, (0, 2, 1, 3))
  return Keys(k, v, transposed)


def _block_form(keys: Keys) -> tuple[jax.Array, jax.Array]:
  """The inverse of `of_block`."""
  if not keys.transposed:
    return keys.k, keys.v
  return (
    jnp.transpose(keys.k, (0, 3, 1, 2)),
    jnp.transpose(keys.v, (0, 2, 1, 3)),
  )


def empty(
  config: model_config.ModelConfig,
  batch_size: int,
  length: int,
  *,
  block: int = 1,
  dtype=jnp.float32,
  transposed: bool | None = None,
) -> KVCache:
  """A cache for rows of `length` tokens, written `block` at a time at most."""
  if transposed is None:
    transposed = default_transposed()
  slots = {
    'global': length,
    'local': ring_length(config, length, block),
  }

  def keys(kind):
    b, s = batch_size, slots[kind]
    h, d = config.num_kv_heads, config.head_dim
    k_shape = (b, h, d, s) if transposed else (b, s, h, d)
    v_shape = (b, h, s, d) if transposed else (b, s, h, d)
    return Keys(
      jnp.zeros(k_shape, dtype), jnp.zeros(v_shape, dtype), transposed
    )

  kinds = config.layer_kinds
  return KVCache(
    layers=tuple(keys(kind) for kind in kinds),
    positions={
      kind: jnp.full((batch_size, slots[kind]), -1, jnp.int32)
      for kind in sorted(set(kinds))
    },
  )


def write_slots(stored: jax.Array, positions: jax.Array) -> jax.Array:
  """Where a block goes: slot = position mod ring, the last of each slot wins.

  Args:
    stored: positions in the slots now, i32 [B, S].
    positions: of the block, i32 [B, block], -1 for what must not be written.

  Returns:
    i32 [B, block]; S, which a dropping scatter ignores, where nothing is
    written: padding, and positions that a later one of the block overwrites.
  """
  num_slots = stored.shape[1]
  last = positions.max(axis=1, keepdims=True)
  kept = (positions >= 0) & (positions > last - num_slots)
  return jnp.where(kept, positions % num_slots, num_slots)


def write_positions(stored, slots, positions):
  """Positions in the slots after a block was written, i32 [B, S]."""
  rows = jnp.arange(stored.shape[0])[:, None]
  return stored.at[rows, slots].set(positions, mode='drop')


def write(keys: Keys, slots: jax.Array, k: jax.Array, v: jax.Array) -> Keys:
  """Puts a block's keys and values [B, block, K, H] into its slots."""
  rows = jnp.arange(slots.shape[0])[:, None]
  k, v = k.astype(keys.k.dtype), v.astype(keys.v.dtype)
  if keys.transposed:
    return keys.replace(
      k=keys.k.at[rows, :, :, slots].set(k, mode='drop'),
      v=keys.v.at[rows, :, slots].set(v, mode='drop'),
    )
  return keys.replace(
    k=keys.k.at[rows, slots].set(k, mode='drop'),
    v=keys.v.at[rows, slots].set(v, mode='drop'),
  )


def visible(
  query_positions: jax.Array, key_positions: jax.Array, window: int | None
) -> jax.Array:
  """Which keys a query sees: causal, not empty, inside the window.

  Args:
    query_positions: i32 [B, Q].
    key_positions: i32 [B, S], -1 where there is no key.
    window: keys a query sees, its own included; None: all.

  Returns:
    bool [B, Q, S].
  """
  query = query_positions[:, :, None]
  key = key_positions[:, None, :]
  seen = (key >= 0) & (key <= query)
  return seen & (key > query - window) if window else seen


def attend(
  q: jax.Array,
  pieces: Sequence[tuple[Keys, jax.Array]],
  *,
  softcap: float | None = None,
) -> jax.Array:
  """Softmax attention of a block of queries over pieces of keys together.

  Args:
    q: scaled queries [B, Q, N, H].
    pieces: (keys, mask bool [B, Q, S]) pairs; the softmax spans all of them.
    softcap: c in c * tanh(score / c), applied before the mask.

  Returns:
    [B, Q, N, H] in q's dtype. A query that sees nothing gets an average.
  """
  batch, queries, num_heads, head_dim = q.shape
  heads_axis = 1 if pieces[0][0].transposed else 2
  num_kv = pieces[0][0].k.shape[heads_axis]
  q = q.reshape(batch, queries, num_kv, num_heads // num_kv, head_dim)
  q = jnp.transpose(q, (0, 2, 3, 1, 4))  # [B, K, G, Q, H]
  scores = jnp.concatenate(
    [
      _scores(q, keys, softcap) + jnp.where(mask, 0, _MASKED)[:, None, None]
      for keys, mask in pieces
    ],
    axis=-1,
  )  # f32 [B, K, G, Q, S]
  weights = _softmax(scores)
  ends = [
    sum(k.num_slots for k, _ in pieces[: i + 1]) for i in range(len(pieces))
  ]
  parts = jnp.split(weights, ends[:-1], axis=-1)
  out = sum(
    _mix(part, keys) for part, (keys, _) in zip(parts, pieces, strict=True)
  )
  out = jnp.transpose(out.astype(q.dtype), (0, 3, 1, 2, 4))
  return out.reshape(batch, queries, num_heads, head_dim)


@jax.custom_vjp
def _softmax(scores: jax.Array) -> jax.Array:
  """Softmax over the last axis, with the short form of its derivative.

  The general rule of a maximum, an exponential and a quotient takes a CPU
  almost twice as long.
  """
  return jax.nn.softmax(scores, axis=-1)


def _softmax_forward(scores):
  weights = _softmax(scores)
  return weights, weights


def _softmax_backward(weights, cotangent):
  mean = jnp.sum(weights * cotangent, axis=-1, keepdims=True)
  return (weights * (cotangent - mean),)


_softmax.defvjp(_softmax_forward, _softmax_backward)


def _scores(q, keys, softcap):
  form = 'bkgqh,bkhs->bkgqs' if keys.transposed else 'bkgqh,bskh->bkgqs'
  q = q.astype(keys.k.dtype)
  scores = jnp.einsum(form, q, keys.k, preferred_element_type=jnp.float32)
  return softcap * jnp.tanh(scores / softcap) if softcap else scores


def _mix(weights, keys):
  form = 'bkgqs,bksh->bkgqh' if keys.transposed else 'bkgqs,bskh->bkgqh'
  weights = weights.astype(keys.v.dtype)
  return jnp.einsum(form, weights, keys.v, preferred_element_type=jnp.float32)


def from_prefix(
  config: model_config.ModelConfig,
  prefix: Sequence[Keys],
  positions: jax.Array,
  length: int,
  *,
  copies: int = 1,
  block: int = 1,
  dtype=jnp.float32,
) -> KVCache:
  """A cache that starts with prefilled keys, each row `copies` times.

  Args:
    config: the model.
    prefix: what `transformer.forward` returned for the prompts, a layer each;
      the cache has its layout.
    positions: of the prompts' tokens, i32 [N, P], -1 for padding.
    length: of the rows to come.
    copies: G; row n * G + g continues prompt n.
    block: the longest block that will be appended.
    dtype: of the cache.

  Returns:
    A cache of N * G rows.
  """
  cache = empty(
    config,
    positions.shape[0],
    length,
    block=block,
    dtype=dtype,
    transposed=prefix[0].transposed,
  )
  slots = {
    kind: write_slots(s, positions) for kind, s in cache.positions.items()
  }
  layers = tuple(
    _write_prefix(layer, slots[kind], keys)
    for layer, keys, kind in zip(
      cache.layers, prefix, config.layer_kinds, strict=True
    )
  )
  stored = {
    kind: write_positions(s, slots[kind], positions)
    for kind, s in cache.positions.items()
  }
  return jax.tree.map(
    lambda x: jnp.repeat(x, copies, axis=0), KVCache(layers, stored)
  )


def _write_prefix(keys: Keys, slots, prefix: Keys) -> Keys:
  if prefix.num_slots > keys.num_slots:  # a ring: the prompt's end remains
    return write(keys, slots, *_block_form(prefix))
  # One pad, no scatter: slot = position, and padding is masked by position.
  return keys.replace(k=_pad_to(prefix.k, keys.k), v=_pad_to(prefix.v, keys.v))


def _pad_to(x: jax.Array, like: jax.Array) -> jax.Array:
  """X with zeros after it along every axis, in shape and dtype of `like`."""
  pads = [(0, new - old) for old, new in zip(x.shape, like.shape, strict=True)]
  return jnp.pad(x.astype(like.dtype), pads)
