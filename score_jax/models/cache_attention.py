"""Attention of a block of queries over cached keys.

Shapes: B sequences, S slots, Q queries, N heads, K key-value heads, G = N / K,
H head dimension.
"""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp

from score_jax.models import kv_cache

# Added to the scores of hidden keys, as in Gemma's reference: far below any
# score, and finite, so that a query without visible keys gives no NaN.
MASKED = -2.3819763e38


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
  pieces: Sequence[tuple[kv_cache.Keys, jax.Array]],
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


def attend_live(
  q: jax.Array,
  keys: kv_cache.Keys,
  mask: jax.Array,
  live: jax.Array | None,
  segments: int,
  *,
  softcap: float | None = None,
) -> jax.Array:
  """Computes `attend` without reading all slots that are still empty.

  Slots are cut into segments; those up to the last one with a live slot are
  read. How many that are is chosen while the program runs, but each choice
  slices the cache at fixed places, which costs nothing: no key is copied.

  Args:
    q: scaled queries [B, Q, N, H].
    keys: of the layer, the block's included.
    mask: bool [B, Q, S], as for `attend`; false from slot `live` on.
    live: i32 []; None: all slots.
    segments: number of them.
    softcap: as for `attend`.

  Returns:
    [B, Q, N, H] in q's dtype.
  """
  ends = segment_ends(keys.num_slots, 1 if live is None else segments)
  num_kv = keys.k.shape[2]
  is_joined = q.shape[1] == 1 and not keys.transposed and keys.has_all_heads
  if is_joined:
    # Before the cache is sliced: the other way round it would be copied.
    q, keys = _join_heads(q, keys)

  def attend_first(end, q, keys, mask):
    return attend(q, [(keys.first(end), mask[:, :, :end])], softcap=softcap)

  choice = sum((live > end).astype(jnp.int32) for end in ends[:-1])
  branches = [functools.partial(attend_first, end) for end in ends]
  out = jax.lax.switch(choice, branches, q, keys, mask)
  return _own_heads(out, num_kv) if is_joined else out


def _join_heads(q, keys):
  """Queries [B, 1, N, K * H], and keys as those of a single head of K * H.

  Each query has zeros where the keys of other heads are. That is K times the
  FLOPs, but G queries by themselves leave a TPU's matrix unit idle. By its
  compiler's estimate one product for Gemma 2 2B's 4 heads takes 0.9 times as
  long as one for each on a v5p, and a tenth on a v5e.
  """
  batch, slots, num_kv, head_dim = keys.k.shape
  own_head = jnp.eye(num_kv, dtype=q.dtype)[None, None, :, None, :, None]
  q = q.reshape(batch, 1, num_kv, -1, 1, head_dim) * own_head
  wide = (batch, slots, 1, num_kv * head_dim)
  joined = keys.replace(k=keys.k.reshape(wide), v=keys.v.reshape(wide))
  return q.reshape(batch, 1, -1, num_kv * head_dim), joined


def _own_heads(out, num_kv):
  """Of mixtures [B, 1, N, K * H] each query's own head, [B, 1, N, H]."""
  batch, _, num_heads, width = out.shape
  group, head_dim = num_heads // num_kv, width // num_kv
  out = out.reshape(batch, 1, num_kv, group, num_kv, head_dim)
  own = [out[:, :, head, :, head] for head in range(num_kv)]
  return jnp.concatenate(own, axis=2)


def segment_ends(num_slots: int, segments: int) -> tuple[int, ...]:
  """Ends of equal segments of S slots, multiples of 8 but for the last."""
  size = kv_cache.aligned(-(-num_slots // segments))
  return tuple(
    min(end, num_slots) for end in range(size, num_slots + size, size)
  )


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
