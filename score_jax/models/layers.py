"""The parts of a decoder block, in Flax linen.

Shapes: B sequences, S tokens, D width, N heads, K key-value heads, H head
dimension, F MLP width. Norms, RoPE and softmax compute in float32 whatever the
activations' dtype. Every parameter has logical axis names;
training/sharding.py maps them to the mesh.
"""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from score_jax.models import (
  attention,
  cache_attention,
  kv_cache,
  lora,
  model_config,
)


def rope_table(
  positions: jax.Array, head_dim: int, base: float, scale: float
) -> tuple[jax.Array, jax.Array]:
  """Returns cosines and sines of rotary embedding (arXiv:2104.09864).

  Args:
    positions: i32 [B, S].
    head_dim: H; number i rotates with number i + H / 2, as in Gemma.
    base: of the geometric progression of wavelengths.
    scale: divides the positions.

  Returns:
    Two f32 [B, S, 1, H / 2].
  """
  fraction = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
  timescale = (base**fraction)[None, None, None]
  angle = positions[:, :, None, None].astype(jnp.float32) / timescale / scale
  return jnp.cos(angle), jnp.sin(angle)


def apply_rope(
  x: jax.Array, table: tuple[jax.Array, jax.Array], scale: float = 1.0
) -> jax.Array:
  """Rotates the halves of x [B, S, heads, H] by position and scales, in f32."""
  cos, sin = table
  # Scaled before x is rounded to its dtype again: in bfloat16 a rounded scale
  # such as 1 / 12 would shift every score.
  first, second = jnp.split(x.astype(jnp.float32) * scale, 2, axis=-1)
  rotated = [first * cos - second * sin, second * cos + first * sin]
  return jnp.concatenate(rotated, axis=-1).astype(x.dtype)


def _kernel(module, name, shape, axes):
  """Makes a 2-D weight, drawn with variance 1 / fan-in."""
  init = nn.initializers.variance_scaling(1.0, 'fan_in', 'normal')
  return module.param(name, nn.with_logical_partitioning(init, axes), shape)


def matmul(
  x: jax.Array,
  w: jax.Array | lora.Adapted,
  operands: str | None = None,
) -> jax.Array:
  """Returns x @ w in x's dtype; of an adapted w, x @ W + (x @ A) @ B * scale.

  x is flattened to two dimensions: a CPU computes the gradients of a
  three-dimensional product half as fast.

  Args:
    x: [..., D].
    w: [D, F].
    operands: as in `ModelConfig`.
  """
  if isinstance(w, lora.Adapted):
    low = matmul(x, w.adapter.a, operands) * w.adapter.scale
    whole = matmul(x, w.weight, operands)
    return whole + matmul(low, w.adapter.b, operands)
  flat = _product(operands, x.reshape(-1, x.shape[-1]), w.astype(x.dtype))
  return flat.reshape(*x.shape[:-1], w.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(operands: str | None, x: jax.Array, w: jax.Array) -> jax.Array:
  """Returns x [M, D] @ w [D, F] in x's dtype, of rounded operands."""
  narrow = operands or x.dtype
  return jax.lax.dot(
    x.astype(narrow), w.astype(narrow), preferred_element_type=x.dtype
  )


def _product_forward(operands, x, w):
  return _product(operands, x, w), (x, w)


def _product_backward(operands, residuals, cotangent):
  x, w = residuals
  product = functools.partial(_product, operands)
  if x.shape[1] <= cotangent.shape[1]:
    return product(cotangent, w.T), product(x.T, cotangent)
  # A CPU is twice as fast with the shorter matrix on the left. Without the
  # barrier the compiler would fold the transposes back into one product.
  transposed = jax.lax.optimization_barrier(product(cotangent.T, x))
  return product(cotangent, w.T), transposed.T


_product.defvjp(_product_forward, _product_backward)


class RMSNorm(nn.Module):
  """Computes x / rms(x) * (1 + scale) in float32; `scale` starts at 0.

  Attributes:
    epsilon: added to the mean square.
  """

  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x):
    init = nn.with_logical_partitioning(nn.initializers.zeros_init(), (None,))
    scale = self.param('scale', init, (x.shape[-1],))
    # Everything in float32, as in transformers; Google's code squares bfloat16
    # numbers in bfloat16. Sampler and update share this function.
    wide = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    normed = wide * jax.lax.rsqrt(mean_square + self.epsilon)
    scale = jnp.expand_dims(1 + scale.astype(jnp.float32), range(x.ndim - 1))
    return (normed * scale).astype(x.dtype)


class Attention(nn.Module):
  """Grouped-query attention of a block to itself and to a cache, if any."""

  config: model_config.ModelConfig
  kind: model_config.LayerKind

  @nn.compact
  def __call__(self, x, context, keys):
    """Returns the output [B, S, D] and the layer's keys, the block's included.

    Args:
      x: [B, S, D].
      context: `transformer.Context` of this layer kind.
      keys: `kv_cache.Keys` before the block; None: the block is the whole
        sequence.
    """
    c = self.config
    window = c.window if self.kind == 'local' else None
    q, k, v = self._project(x)
    if c.qk_norm:
      q = RMSNorm(c.norm_epsilon, name='q_norm')(q)
      k = RMSNorm(c.norm_epsilon, name='k_norm')(k)
    scale = c.head_dim**-0.5 if c.query_scale is None else c.query_scale
    q = apply_rope(q, context.rope, scale)
    k = apply_rope(k, context.rope)
    out, after = self._attend(q, k, v, window, context, keys)
    out = out.reshape(*x.shape[:2], c.num_heads * c.head_dim)
    o = _kernel(self, 'o', (out.shape[-1], c.width), ('heads', 'embed'))
    return matmul(out, o, c.operands), after

  def _attend(self, q, k, v, window, context, keys):
    """Returns attention's output [B, S, N, H], and keys as `__call__` does.

    Args:
      q: [B, S, N, H].
      k: [B, S, K, H].
      v: [B, S, K, H].
      window: of this layer; None: all keys before.
      context: `transformer.Context` of this layer kind.
      keys: as for `__call__`.
    """
    softcap = self.config.attention_softcap
    block = kv_cache.of_block(k, v, context.transposed)
    if keys is None:
      out = attention.attend(
        q,
        k,
        v,
        window=window,
        softcap=softcap,
        path=context.attention,
        sharding=context.sharding,
      )
      return out, block
    now = context.positions
    is_in_step = context.slots.ndim == 0
    if window is None or q.shape[1] == 1 or is_in_step:
      # Written first, so that attention spans a single piece of keys. On a ring
      # a single token overwrites no key inside its window.
      after = kv_cache.write(keys, context.slots, k, v)
      seen = cache_attention.visible(now, context.stored_after, window)
      out = cache_attention.attend_live(
        q, after, seen, context.live, context.segments, softcap=softcap
      )
      return out, after
    # On a ring, writing a block first could overwrite keys that its first
    # tokens see: attention spans the old ring and the block as two pieces.
    old = (keys, cache_attention.visible(now, context.stored, window))
    own = (block, cache_attention.visible(now, now, window))
    out = cache_attention.attend(q, [old, own], softcap=softcap)
    return out, kv_cache.write(keys, context.slots, k, v)

  def _project(self, x):
    c = self.config
    projected = []
    for name, heads, axis in (
      ('q', c.num_heads, 'heads'),
      ('k', c.num_kv_heads, 'kv_heads'),
      ('v', c.num_kv_heads, 'kv_heads'),
    ):
      w = _kernel(self, name, (c.width, heads * c.head_dim), ('embed', axis))
      y = matmul(x, w, c.operands)
      projected.append(y.reshape(*x.shape[:2], heads, c.head_dim))
    return projected


class Mlp(nn.Module):
  """GeGLU: down(gelu_tanh(gate(x)) * up(x)) (arXiv:2002.05202)."""

  config: model_config.ModelConfig

  @nn.compact
  def __call__(self, x):
    d, f = self.config.width, self.config.mlp_width
    gate = _kernel(self, 'gate', (d, f), ('embed', 'mlp'))
    up = _kernel(self, 'up', (d, f), ('embed', 'mlp'))
    down = _kernel(self, 'down', (f, d), ('mlp', 'embed'))
    product = functools.partial(matmul, operands=self.config.operands)
    gated = jax.nn.gelu(product(x, gate), approximate=True) * product(x, up)
    return product(gated, down)


class Block(nn.Module):
  """One decoder block: attention and MLP, each between its norms."""

  config: model_config.ModelConfig
  kind: model_config.LayerKind

  @nn.compact
  def __call__(self, x, context, keys=None):
    c = self.config
    norm = functools.partial(RMSNorm, c.norm_epsilon)
    y = norm(name='pre_attention_norm')(x)
    y, keys = Attention(c, self.kind, name='attention')(y, context, keys)
    if c.post_norms:  # of the branch, before it joins the residual stream
      y = norm(name='post_attention_norm')(y)
    x = x + y
    y = Mlp(c, name='mlp')(norm(name='pre_mlp_norm')(x))
    if c.post_norms:
      y = norm(name='post_mlp_norm')(y)
    return x + y, keys
