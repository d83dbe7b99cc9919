"""The key-value cache: its memory layout, its rings, and attention over it.

No other file depends on the layout. Global layers have a slot for each position
of the sequence; local layers have a ring about as long as their window, slot =
position mod ring length. Masks come from the position stored with each slot
(-1: empty), never from a token's value. Writes are scatters at each sequence's
own slots, which compile to updates in place.

A block is the tokens of one call of `transformer.forward`: one while decoding,
several for a turn separator.

Shapes: B sequences, S slots, Q queries, N heads, K key-value heads, G = N / K,
H head dimension.
"""

from collections.abc import Sequence

from flax import struct
import jax
import jax.numpy as jnp

from score_jax.models import model_config

# Added to the scores of hidden keys, as in Gemma's reference: far below any
# score, and finite, so that a query without visible keys gives no NaN.
MASKED = -2.3819763e38


@struct.dataclass
class Keys:
  """Keys and values of one layer; masks say which slots count.

  Attributes:
    k: [B, K, H, S] if `transposed`, which CPU matmuls read without a copy,
      else [B, S, K, H].
    v: [B, K, S, H] if `transposed`, else [B, S, K, H].
    transposed: which of the two layouts.
  """

  k: jax.Array
  v: jax.Array
  transposed: bool = struct.field(pytree_node=False, default=False)

  @property
  def num_slots(self) -> int:
    """Number of slots S."""
    return self.k.shape[3] if self.transposed else self.k.shape[1]


@struct.dataclass
class KVCache:
  """Cache of all layers.

  Attributes:
    layers: one `Keys` per layer.
    positions: position stored in each slot by layer kind, i32 [B, S of the
      kind], -1 where empty; layers of a kind share it.
  """

  # A pair of arrays per layer: a stacked cache would be sliced, and so copied,
  # layer by layer at every token.
  layers: tuple[Keys, ...]
  positions: dict[str, jax.Array]


def default_transposed() -> bool:
  """Whether the default backend's matmuls read the transposed layout faster."""
  # A CPU copies an untransposed cache at every token, which costs a third of
  # decode; on a TPU the scatter into [B, S, K, H] is in place as it is.
  return jax.default_backend() == 'cpu'


def ring_length(config: model_config.ModelConfig, length: int, block: int):
  """Slots of a local layer for sequences of `length`, written `block` at once.

  With window + block - 1 slots, writing a block overwrites no key that the
  block's first token sees.
  """
  return min(length, config.window + block - 1) if config.window else length


def of_block(k: jax.Array, v: jax.Array, transposed: bool) -> Keys:
  """Puts keys and values [B, S, K, H] of a block into a layout."""
  if transposed:
    k, v = jnp.transpose(k, (0, 2, 3, 1)), jnp.transpose(v, (0, 2, 1, 3))
  return Keys(k, v, transposed)


def _block_form(keys: Keys) -> tuple[jax.Array, jax.Array]:
  """Returns k and v as [B, S, K, H]: the inverse of `of_block`."""
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
  """Returns an empty cache.

  Args:
    config: the model.
    batch_size: B.
    length: of the sequences, in tokens.
    block: most tokens written at once.
    dtype: of keys and values.
    transposed: layout, see `Keys`; None: the default backend's.
  """
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
  """Assigns slots to a block's tokens: position mod number of slots.

  Args:
    stored: positions in the slots, i32 [B, S].
    positions: of the block's tokens, i32 [B, block], -1 for padding.

  Returns:
    Slots i32 [B, block]; S, which a dropping scatter ignores, for padding and
    for tokens whose slot a later token of the block takes.
  """
  # A scatter with duplicate indices has no defined order, so that only the last
  # token of each slot may be written.
  num_slots = stored.shape[1]
  last = positions.max(axis=1, keepdims=True)
  kept = (positions >= 0) & (positions > last - num_slots)
  return jnp.where(kept, positions % num_slots, num_slots)


def write_positions(stored, slots, positions):
  """Returns the positions in the slots, i32 [B, S], after writing a block."""
  sequence = jnp.arange(stored.shape[0])[:, None]
  return stored.at[sequence, slots].set(positions, mode='drop')


def write(keys: Keys, slots: jax.Array, k: jax.Array, v: jax.Array) -> Keys:
  """Writes a block's keys and values [B, block, K, H] into its slots."""
  # A scatter at each sequence's own slots is done in place; `vmap` of a dynamic
  # update slice would compile to a loop over sequences on a TPU.
  sequence = jnp.arange(slots.shape[0])[:, None]
  k, v = k.astype(keys.k.dtype), v.astype(keys.v.dtype)
  if keys.transposed:
    return keys.replace(
      k=keys.k.at[sequence, :, :, slots].set(k, mode='drop'),
      v=keys.v.at[sequence, :, slots].set(v, mode='drop'),
    )
  return keys.replace(
    k=keys.k.at[sequence, slots].set(k, mode='drop'),
    v=keys.v.at[sequence, slots].set(v, mode='drop'),
  )


def visible(
  query_positions: jax.Array, key_positions: jax.Array, window: int | None
) -> jax.Array:
  """Returns which keys each query sees: causal, not empty, in the window.

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
  """Computes softmax attention of a block of queries over pieces of keys.

  Args:
    q: scaled queries [B, Q, N, H].
    pieces: (keys, mask bool [B, Q, S]) pairs; one softmax spans all of them.
    softcap: c in c * tanh(score / c), applied before the mask.

  Returns:
    [B, Q, N, H] in q's dtype. For a query without visible keys it is the mean
    of all values, and finite.
  """
  batch, queries, num_heads, head_dim = q.shape
  heads_axis = 1 if pieces[0][0].transposed else 2
  num_kv = pieces[0][0].k.shape[heads_axis]
  q = q.reshape(batch, queries, num_kv, num_heads // num_kv, head_dim)
  q = jnp.transpose(q, (0, 2, 3, 1, 4))  # [B, K, G, Q, H]
  # Scores are joined, not keys: a concatenation of keys would copy the cache.
  scores = jnp.concatenate(
    [
      _scores(q, keys, softcap) + jnp.where(mask, 0, MASKED)[:, None, None]
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

  Autodiff of a maximum, an exponential and a quotient takes almost twice as
  long on a CPU.
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
  """Soft-capped scores f32 [B, K, G, Q, S]."""
  form = 'bkgqh,bkhs->bkgqs' if keys.transposed else 'bkgqh,bskh->bkgqs'
  q = q.astype(keys.k.dtype)
  scores = jnp.einsum(form, q, keys.k, preferred_element_type=jnp.float32)
  return softcap * jnp.tanh(scores / softcap) if softcap else scores


def _mix(weights, keys):
  """Weighted sums of values, f32 [B, K, G, Q, H]."""
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
  """Returns a cache that starts with prefilled prompts, `copies` of each.

  Args:
    config: the model.
    prefix: keys of the N prompts as `transformer.forward` returns them, one per
      layer; the cache takes over their layout.
    positions: of the prompts' tokens, i32 [N, P], -1 for padding.
    length: of the sequences, prompts included, in tokens.
    copies: G; sequence n * G + g continues prompt n.
    block: most tokens that will be written at once.
    dtype: of the cache.

  Returns:
    A cache of N * G sequences.
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
  # Copies of a prompt are neighbours, so that they stay on its device; `tile`
  # would exchange prompts between devices.
  return jax.tree.map(
    lambda x: jnp.repeat(x, copies, axis=0), KVCache(layers, stored)
  )


def _write_prefix(keys: Keys, slots, prefix: Keys) -> Keys:
  if prefix.num_slots > keys.num_slots:  # a ring keeps the prompt's end
    return write(keys, slots, *_block_form(prefix))
  # Slot = position here, so that one pad replaces the scatter. It copies the
  # keys of padding too, which the stored positions mask.
  return keys.replace(k=_pad_to(prefix.k, keys.k), v=_pad_to(prefix.v, keys.v))


def _pad_to(x: jax.Array, like: jax.Array) -> jax.Array:
  """Appends zeros to x along every axis, up to shape and dtype of `like`."""
  pads = [(0, new - old) for old, new in zip(x.shape, like.shape, strict=True)]
  return jnp.pad(x.astype(like.dtype), pads)
