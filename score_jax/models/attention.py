"""Causal self-attention of whole sequences, for prefill and update.

Sequences are right-padded, so the causal mask alone keeps padding out and no
mask depends on data. `attend` has a path for each platform, with the same
soft-caps and windows: a Pallas kernel on TPUs (`models/splash.py`), cuDNN on
GPUs where it applies, and XLA everywhere. XLA's queries are split into chunks
that skip the keys they cannot see, and its backward pass recomputes the
probabilities from their log-sum-exp (arXiv:2205.14135, section 3.1), so that no
scores are kept. Attention over a cache is in `models/cache_attention.py`.

Shapes: B sequences, S tokens, N heads, K key-value heads, G = N / K, H head
dimension, C queries of a chunk, L keys that they see.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from score_jax.models import cache_attention, splash

Path = Literal['xla', 'splash', 'cudnn']

# Chunks of a sequence: more would skip few further keys and compile longer.
_CHUNKS, _SMALLEST_CHUNK = 8, 64


def default_path(platform: str, dtype: Any, softcap: float | None) -> Path:
  """Returns the fastest path on a platform: 'cpu', 'gpu' or 'tpu'.

  cuDNN supports neither soft-caps nor float32.
  """
  if platform == 'tpu':
    return 'splash'
  narrow = jnp.dtype(dtype).itemsize == 2
  return 'cudnn' if platform == 'gpu' and narrow and not softcap else 'xla'


def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  *,
  window: int | None = None,
  softcap: float | None = None,
  path: Path = 'xla',
  sharding: jax.sharding.NamedSharding | None = None,
) -> jax.Array:
  """Causal softmax attention of each sequence to itself.

  Args:
    q: scaled queries [B, S, N, H].
    k: [B, S, K, H].
    v: [B, S, K, H].
    window: keys a query sees, its own included; None: all before it.
    softcap: c in c * tanh(score / c), applied before the mask.
    path: implementation.
    sharding: of the batch axis over several devices; the TPU kernel runs inside
      `shard_map` and needs it, XLA does not.

  Returns:
    [B, S, N, H] in q's dtype.

  Raises:
    ValueError: the path does not support the soft-cap.
  """
  if path == 'splash':
    return splash.attend(
      q, k, v, window=window, softcap=softcap, sharding=sharding
    )
  if path == 'cudnn':
    return _cudnn(q, k, v, window, softcap)
  # Heads in front of tokens, so that each product is a plain batched matmul.
  batch, length, heads, head_dim = q.shape
  grouped = (batch, length, k.shape[2], heads // k.shape[2], head_dim)
  q = jnp.transpose(q.reshape(grouped), (0, 2, 3, 1, 4))
  k, v = jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2)
  out = _attend(window, softcap, q, k, v)
  return jnp.transpose(out, (0, 3, 1, 2, 4)).reshape(batch, length, heads, -1)


def _cudnn(q, k, v, window, softcap):
  if softcap:
    raise ValueError(
      'cuDNN has no soft-cap: use attention=xla for models with '
      f'attention_softcap={softcap}'
    )
  return jax.nn.dot_product_attention(
    q,
    k,
    v,
    scale=1.0,
    is_causal=True,
    local_window_size=(window - 1, 0) if window else None,
    implementation='cudnn',
  )


def _chunks(length: int, window: int | None) -> list[tuple[slice, slice]]:
  """Pairs of a slice of queries and the slice of keys that any of them sees."""
  count = max(1, min(_CHUNKS, length // _SMALLEST_CHUNK))
  size = -(-length // count)
  chunks = []
  for start in range(0, length, size):
    end = min(start + size, length)
    first = max(0, start + 1 - window) if window else 0
    chunks.append((slice(start, end), slice(first, end)))
  return chunks


def _masked_scores(q, k, queries, keys, window, softcap):
  """Scores f32 [B, K, G, C, L] of a chunk, and d capped / d score."""
  scores = _dot('bkgqh,bksh->bkgqs', q[:, :, :, queries], k[:, :, keys])
  slope = None
  if softcap:
    tanh = jnp.tanh(scores / softcap)
    scores, slope = softcap * tanh, 1 - jnp.square(tanh)
  # NumPy: the mask is a constant of the program, the same for every sequence.
  query = np.arange(queries.start, queries.stop)[:, None]
  key = np.arange(keys.start, keys.stop)[None]
  hidden = key > query
  if window:
    hidden |= key <= query - window
  mask = np.where(hidden, np.float32(cache_attention.MASKED), np.float32(0))
  return scores + mask[None, None, None], slope


def _dot(form, x, y):
  """An einsum of any dtype, accumulated in float32."""
  return jnp.einsum(form, x, y, preferred_element_type=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(window, softcap, q, k, v):
  """Attention of q [B, K, G, S, H] to k and v [B, K, S, H]."""
  return _forward(window, softcap, q, k, v)[0]


def _forward(window, softcap, q, k, v):
  outs, log_sums = [], []
  for queries, keys in _chunks(q.shape[3], window):
    scores, _ = _masked_scores(q, k, queries, keys, window, softcap)
    largest = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - largest)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    # Divided after the product: H numbers a query, not L.
    mixed = _dot('bkgqs,bksh->bkgqh', weights.astype(v.dtype), v[:, :, keys])
    outs.append(mixed / total)
    log_sums.append(largest + jnp.log(total))
  out = jnp.concatenate(outs, axis=3).astype(q.dtype)
  return out, (q, k, v, out, log_sums)


def _backward(window, softcap, residuals, cotangent):
  """Computes dS = P * (dO V' - rowsum(dO * O)), P the probabilities, O = P V.

  The row sum is the softmax's sum_j P_ij (dO V')_ij, which equals dO_i O_i.
  """
  q, k, v, out, log_sums = residuals
  # As a dot product: on a CPU, multiply and sum take eight times as long.
  mean = _dot('bkgqh,bkgqh->bkgq', cotangent, out)[..., None]
  dq = []
  # Keys are shared by chunks: their gradients add up in float32.
  dk, dv = jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
  for (queries, keys), log_sum in zip(
    _chunks(q.shape[3], window), log_sums, strict=True
  ):
    scores, slope = _masked_scores(q, k, queries, keys, window, softcap)
    weights = jnp.exp(scores - log_sum)
    d_out = cotangent[:, :, :, queries]
    d_weights = _dot('bkgqh,bksh->bkgqs', d_out, v[:, :, keys])
    d_scores = weights * (d_weights - mean[:, :, :, queries])
    if softcap:
      d_scores *= slope
    d_scores, weights = d_scores.astype(q.dtype), weights.astype(q.dtype)
    dq.append(_dot('bkgqs,bksh->bkgqh', d_scores, k[:, :, keys]))
    dk_chunk = _dot('bkgqs,bkgqh->bksh', d_scores, q[:, :, :, queries])
    dk = dk.at[:, :, keys].add(dk_chunk)
    dv = dv.at[:, :, keys].add(_dot('bkgqs,bkgqh->bksh', weights, d_out))
  dq = jnp.concatenate(dq, axis=3)
  return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype)


_attend.defvjp(_forward, _backward)
