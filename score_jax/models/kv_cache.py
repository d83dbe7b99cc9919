"""The key-value cache: its memory layout, its rings and its slots.

Only `models/cache_attention.py` depends on the layout too. Global layers have a
slot for each position of the sequence; local layers have a ring about as long
as their window where that is shorter, slot = position mod ring length. Masks
come from the position stored with each slot (-1: empty), never from a token's
value.

Where a block goes is one of two things. Slots of a sequence's own follow from
its positions and cost a scatter for each layer. Layers without a ring can
instead write in lock-step: every block of all sequences goes to the next slots,
whether a sequence has tokens in it or not, by one slice. Scatters are what TPUs
are slow at; a ring cannot do without, since slots without tokens would leave
fewer than a window of live ones.

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


@struct.dataclass
class Keys:
  """Keys and values of one layer; masks say which slots count.

  Attributes:
    k: [B, K, H, S] if `transposed`, which CPU matmuls read without a copy,
      else [B, S, K, H].
    v: [B, K, S, H] if `transposed`, else [B, S, K, H].
    transposed: which of the two layouts.
    has_all_heads: whether no head of a sequence is on another device.
  """

  k: jax.Array
  v: jax.Array
  transposed: bool = struct.field(pytree_node=False, default=False)
  has_all_heads: bool = struct.field(pytree_node=False, default=True)

  @property
  def num_slots(self) -> int:
    """Number of slots S."""
    return self.k.shape[3] if self.transposed else self.k.shape[1]

  def first(self, end: int) -> 'Keys':
    """The first slots alone."""
    if self.transposed:
      return self.replace(k=self.k[:, :, :, :end], v=self.v[:, :, :end])
    return self.replace(k=self.k[:, :end], v=self.v[:, :end])


@struct.dataclass
class KVCache:
  """Cache of all layers.

  Attributes:
    layers: one `Keys` per layer.
    positions: position stored in each slot by layer kind, i32 [B, S of the
      kind], -1 where empty; layers of a kind share it.
    next_slot: that a block in lock-step goes to, i32 []; slots from it on are
      empty.
    rings: kinds of layers that have one.
    segments: that attention reads the other layers' slots in, see
      `cache_attention.attend_live`.
    lock_step: whether sequences write at the same time throughout, so that
      layers without a ring can do it in lock-step.
  """

  # A pair of arrays per layer: a stacked cache would be sliced, and so copied,
  # layer by layer at every token.
  layers: tuple[Keys, ...]
  positions: dict[str, jax.Array]
  next_slot: jax.Array
  rings: tuple[str, ...] = struct.field(pytree_node=False, default=())
  segments: int = struct.field(pytree_node=False, default=1)
  lock_step: bool = struct.field(pytree_node=False, default=True)

  def is_in_step(self, kind: str) -> bool:
    """Whether layers of a kind write in lock-step."""
    # The transposed layout is a CPU's, where scatters are free.
    is_possible = self.lock_step and not self.layers[0].transposed
    return is_possible and kind not in self.rings

  def slots_of(self, kind: str, positions: jax.Array) -> jax.Array:
    """Slots of a block's tokens in layers of a kind.

    Args:
      kind: of the layers.
      positions: of the tokens, i32 [B, block], -1 for padding.

    Returns:
      i32 [], the first of the block's slots, in lock-step; else `own_slots`.
    """
    if self.is_in_step(kind):
      return self.next_slot
    return own_slots(self.positions[kind], positions)

  def live(self, kind: str, positions: jax.Array) -> jax.Array | None:
    """Slots, from the first on, that a block's queries may see; None: all.

    Args:
      kind: of the layers.
      positions: of the block's tokens, i32 [B, block], -1 for padding.

    Returns:
      i32 [], the block's own slots included; None for rings.
    """
    if kind in self.rings:
      return None
    if self.is_in_step(kind):
      return self.next_slot + positions.shape[1]
    return positions.max() + 1

  def after(
    self,
    layers: Sequence[Keys],
    positions: dict[str, jax.Array],
    block: int,
  ) -> 'KVCache':
    """The cache with what writing a block of so many tokens has made."""
    return self.replace(
      layers=tuple(layers),
      positions=positions,
      next_slot=self.next_slot + block,
    )


def default_transposed() -> bool:
  """Whether the default backend's matmuls read the transposed layout faster."""
  # A CPU copies an untransposed cache at every token, which costs a third of
  # decode; on a TPU the scatter into [B, S, K, H] is in place as it is.
  return jax.default_backend() == 'cpu'


def aligned(num_slots: int) -> int:
  """Number of slots, rounded up to a multiple of 8, a TPU's sublanes."""
  return num_slots + -num_slots % 8


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
  segments: int = 1,
  lock_step: bool = True,
  has_all_heads: bool = True,
) -> KVCache:
  """Returns an empty cache.

  Args:
    config: the model.
    batch_size: B.
    length: of the sequences, in tokens. Untransposed slots are `aligned`.
    block: most tokens written at once.
    dtype: of keys and values.
    transposed: layout, see `Keys`; None: the default backend's.
    segments: see `KVCache`.
    lock_step: see `KVCache`.
    has_all_heads: see `Keys`.
  """
  if transposed is None:
    transposed = default_transposed()
  slots = {
    'global': length,
    'local': ring_length(config, length, block),
  }
  if not transposed:
    # Heads of scattered keys are joined in place if the slots fill a TPU's
    # sublanes; else the layer would be copied at every token.
    slots = {kind: aligned(count) for kind, count in slots.items()}

  def keys(kind):
    b, s = batch_size, slots[kind]
    h, d = config.num_kv_heads, config.head_dim
    k_shape = (b, h, d, s) if transposed else (b, s, h, d)
    v_shape = (b, h, s, d) if transposed else (b, s, h, d)
    k, v = jnp.zeros(k_shape, dtype), jnp.zeros(v_shape, dtype)
    return Keys(k, v, transposed, has_all_heads)

  kinds = sorted(set(config.layer_kinds))
  return KVCache(
    layers=tuple(keys(kind) for kind in config.layer_kinds),
    positions={
      kind: jnp.full((batch_size, slots[kind]), -1, jnp.int32) for kind in kinds
    },
    next_slot=jnp.int32(0),
    rings=tuple(kind for kind in kinds if slots[kind] < slots['global']),
    segments=segments,
    lock_step=lock_step,
  )


def own_slots(stored: jax.Array, positions: jax.Array) -> jax.Array:
  """Assigns slots of a sequence's own: position mod number of slots.

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
  if slots.ndim == 0:
    return jax.lax.dynamic_update_slice_in_dim(stored, positions, slots, axis=1)
  sequence = jnp.arange(stored.shape[0])[:, None]
  return stored.at[sequence, slots].set(positions, mode='drop')


def write(keys: Keys, slots: jax.Array, k: jax.Array, v: jax.Array) -> Keys:
  """Writes a block's keys and values [B, block, K, H] into its slots.

  Args:
    keys: of the layer.
    slots: from `KVCache.slots_of`.
    k: [B, block, K, H].
    v: [B, block, K, H].
  """
  k, v = k.astype(keys.k.dtype), v.astype(keys.v.dtype)
  if slots.ndim == 0:
    put = jax.lax.dynamic_update_slice_in_dim
    return keys.replace(
      k=put(keys.k, k, slots, axis=1), v=put(keys.v, v, slots, axis=1)
    )
  # A scatter at each sequence's own slots is done in place; `vmap` of a dynamic
  # update slice would compile to a loop over sequences on a TPU.
  sequence = jnp.arange(slots.shape[0])[:, None]
  if keys.transposed:
    return keys.replace(
      k=keys.k.at[sequence, :, :, slots].set(k, mode='drop'),
      v=keys.v.at[sequence, :, slots].set(v, mode='drop'),
    )
  return keys.replace(
    k=keys.k.at[sequence, slots].set(k, mode='drop'),
    v=keys.v.at[sequence, slots].set(v, mode='drop'),
  )


def from_prefix(
  config: model_config.ModelConfig,
  prefix: Sequence[Keys],
  positions: jax.Array,
  length: int,
  *,
  copies: int = 1,
  **options,
) -> KVCache:
  """Returns a cache that starts with prefilled prompts, `copies` of each.

  In lock-step it goes on in the prompts' last slot P - 1, which is free: their
  last token is never prefilled.

  Args:
    config: the model.
    prefix: keys of the N prompts as `transformer.forward` returns them, one per
      layer; the cache takes over their layout.
    positions: of the prompts' tokens, i32 [N, P], -1 for padding and for a
      prompt's last token.
    length: of the sequences, prompts included, in tokens.
    copies: G; sequence n * G + g continues prompt n.
    **options: further ones of `empty`.

  Returns:
    A cache of N * G sequences.
  """
  cache = empty(
    config,
    positions.shape[0],
    length,
    transposed=prefix[0].transposed,
    **options,
  )
  slots = {kind: own_slots(s, positions) for kind, s in cache.positions.items()}
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
  layers, stored = jax.tree.map(
    lambda x: jnp.repeat(x, copies, axis=0), (layers, stored)
  )
  return cache.replace(
    layers=layers,
    positions=stored,
    next_slot=jnp.int32(positions.shape[1] - 1),
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
