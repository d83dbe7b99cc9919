"""The decoder: one function of (params, tokens, positions, cache).

`forward` serves prefill, decode and update, so that the policy that is sampled
and the policy that is trained can only differ by rounding. The parameter tree
does not depend on the execution: the layers at each place of the layer pattern
are stacked along a leading axis over its repetitions, and layers after the last
whole pattern are separate. `unroll` chooses between a Python loop over layers
and `lax.scan` over the repetitions.

Shapes: B sequences, S tokens of a block, D width, V vocabulary.
"""

import functools

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from score_jax.models import attention as attention_lib
from score_jax.models import kv_cache, layers, model_config


@struct.dataclass
class Context:
  """Values shared by all layers of one kind in a call of `forward`.

  Attributes:
    positions: of the block's tokens, i32 [B, S], -1 for padding.
    rope: cosines and sines, from `layers.rope_table`.
    slots: cache slots that the block is written to, `KVCache.slots_of`;
      None without a cache.
    stored: positions in the cache before the block, i32 [B, slots].
    stored_after: positions in the cache after the block, i32 [B, slots].
    live: slots that the block's queries may see, `KVCache.live`.
    segments: of the cache, see `cache_attention.attend_live`.
    transposed: layout of the block's keys, see `kv_cache.Keys`.
    attention: path of `attention.attend`, used without a cache.
    sharding: of the batch axis, for that path.
  """

  positions: jax.Array
  rope: tuple[jax.Array, jax.Array]
  slots: jax.Array | None = None
  stored: jax.Array | None = None
  stored_after: jax.Array | None = None
  live: jax.Array | None = None
  segments: int = struct.field(pytree_node=False, default=1)
  transposed: bool = struct.field(pytree_node=False, default=False)
  attention: attention_lib.Path = struct.field(pytree_node=False, default='xla')
  sharding: jax.sharding.Sharding | None = struct.field(
    pytree_node=False, default=None
  )


def init_boxed(config: model_config.ModelConfig, key: jax.Array):
  """Draws float32 parameters, boxed with their logical axis names (linen)."""
  embed_key, *layer_keys = jax.random.split(key, 1 + config.num_layers)
  period = len(config.layer_pattern)
  repeats = config.num_repeats
  x = jnp.zeros((1, 1, config.width))
  contexts = _contexts(config, jnp.zeros((1, 1), jnp.int32), None, False)

  def block(kind, key):
    module = layers.Block(config, kind)
    return module.init(key, x, contexts[kind])['params']

  def stacked(place):
    """Layers place, place + period, ... along a new leading axis."""
    kind = config.layer_pattern[place]
    keys = jnp.stack(layer_keys[place : repeats * period : period])
    boxed = jax.vmap(functools.partial(block, kind))(keys)
    return jax.tree.map(
      lambda box: box.replace(names=('layers', *box.names)),
      boxed,
      is_leaf=lambda leaf: isinstance(leaf, nn.meta.AxisMetadata),
    )

  table = nn.with_logical_partitioning(
    nn.initializers.normal(config.width**-0.5), ('vocab', 'embed')
  )(embed_key, (config.vocab_size, config.width))
  norm = layers.RMSNorm().init(embed_key, x)['params']
  params = {'embedding': table, 'final_norm': norm}
  if repeats:
    params['pattern'] = {str(i): stacked(i) for i in range(period)}
  if config.num_remainder:
    params['remainder'] = {
      str(i): block(config.layer_pattern[i], layer_keys[repeats * period + i])
      for i in range(config.num_remainder)
    }
  return params


def init_params(config: model_config.ModelConfig, key: jax.Array):
  """Draws float32 parameters as a plain tree of arrays.

  Args:
    config: the model.
    key: a jax random key.

  Returns:
    `embedding` [V, D]; `final_norm`; `pattern`, a tree for each place of the
    layer pattern, stacked over its repetitions; `remainder`, a tree for each
    layer after the last whole pattern.

  Example:
    >>> params = sj.init_params(config, sj.step_key(0, 'init', 'base', 0))
    >>> params['embedding'].shape == (config.vocab_size, config.width)
    True
  """
  return nn.meta.unbox(init_boxed(config, key))


def logical_axes(config: model_config.ModelConfig):
  """Returns the parameters' logical axis names, a tuple for each leaf."""
  boxed = jax.eval_shape(lambda: init_boxed(config, jax.random.key(0)))
  return jax.tree.map(
    lambda box: tuple(box.names),
    boxed,
    is_leaf=lambda leaf: isinstance(leaf, nn.meta.AxisMetadata),
  )


def unstack(params):
  """Returns the parameters with a separate tree for each layer, in 'layers'.

  For programs that loop over tokens, where a layer sliced out of a stack would
  be copied for every token. `forward` takes both forms, but scans only over
  stacks.
  """
  pattern = params.get('pattern', {})
  rest = params.get('remainder', {})
  stacks = [pattern[str(place)] for place in range(len(pattern))]
  repeats = len(jax.tree.leaves(stacks[0])[0]) if stacks else 0
  layers_in_order = [
    jax.tree.map(lambda p, repeat=repeat: p[repeat], stack)
    for repeat in range(repeats)
    for stack in stacks
  ]
  layers_in_order += [rest[str(place)] for place in range(len(rest))]
  return {
    'embedding': params['embedding'],
    'final_norm': params['final_norm'],
    'layers': {str(i): layer for i, layer in enumerate(layers_in_order)},
  }


def cast(params, dtype):
  """Casts matrices to a dtype; norm scales stay in float32.

  With activations of that dtype the result of `forward` is the same: it casts
  matrices where it uses them, and norms compute in float32.
  """

  def matrix(path, leaf):
    is_scale = getattr(path[-1], 'key', None) == 'scale'
    return leaf if is_scale else leaf.astype(dtype)

  return jax.tree.map_with_path(matrix, params)


def layer_params(config: model_config.ModelConfig, params, layer: int):
  """Returns one layer's parameters, from stacks or from `unstack`'s tree."""
  if 'layers' in params:
    return params['layers'][str(layer)]
  period = len(config.layer_pattern)
  repeat, place = divmod(layer, period)
  if repeat == config.num_repeats:
    return params['remainder'][str(place)]
  return jax.tree.map(lambda p: p[repeat], params['pattern'][str(place)])


def embed(config: model_config.ModelConfig, params, tokens, dtype):
  """Returns scaled input embeddings [B, S, D] of tokens i32 [B, S]."""
  scale = jnp.float32(config.width) ** 0.5
  if config.round_embedding_scale:
    # Checkpoints trained in bfloat16 saw 34.0 for sqrt(1152) = 33.94.
    scale = scale.astype(jnp.bfloat16)
  rows = params['embedding'][tokens].astype(config.operands or dtype)
  return rows.astype(dtype) * scale.astype(dtype)


def unembed(config: model_config.ModelConfig, embedding, hidden):
  """Returns soft-capped logits f32 [..., V] of hidden states [..., D].

  Args:
    config: the model.
    embedding: the tied table [V, D].
    hidden: hidden states after the final norm.
  """
  operands = config.operands or hidden.dtype
  logits = jax.lax.dot_general(
    hidden.astype(operands),
    embedding.astype(operands),
    (((hidden.ndim - 1,), (1,)), ((), ())),
    preferred_element_type=jnp.float32,
  )
  cap = config.final_softcap
  return cap * jnp.tanh(logits / cap) if cap else logits


def forward(
  config: model_config.ModelConfig,
  params,
  tokens: jax.Array,
  positions: jax.Array,
  cache: kv_cache.KVCache | None = None,
  *,
  dtype=jnp.float32,
  unroll: bool = True,
  remat: bool = False,
  transposed: bool | None = None,
  attention: attention_lib.Path | None = None,
  sharding: jax.sharding.Sharding | None = None,
):
  """Returns hidden states of a block of tokens that continues the cache.

  Args:
    config: the model.
    params: as from `init_params`, or, if unrolled, as from `unstack`.
    tokens: i32 [B, S].
    positions: i32 [B, S], each token's index in its sequence, -1 for padding.
    cache: keys of the tokens before; None: the block is the whole sequence.
    dtype: of the activations.
    unroll: Python loop over layers; False: `lax.scan` over the repetitions of
      the layer pattern (only without a cache).
    remat: recompute each decoder block's activations in the backward pass.
    transposed: layout of the block's keys if there is no cache, whose layout
      counts otherwise; None: the default backend's. Programs compiled for
      another platform must pass it.
    attention: path of `attention.attend`, used without a cache; None: the
      default backend's, which so is one for prefill, update and reference.
      Programs compiled for another platform must pass it.
    sharding: of the residual stream, over the batch axis alone; None: left to
      the compiler. If weights are sharded, it tends to shard the width, and
      sums every product of every layer across devices instead of gathering the
      layer's weights.

  Returns:
    hidden [B, S, D] after the final norm, and: the updated cache; without a
    cache, the block's `kv_cache.Keys` of each layer if unrolled, else None.

  Raises:
    ValueError: a cache without `unroll`.
  """
  x = constrain(embed(config, params, tokens, dtype), sharding)
  if cache is not None:
    transposed = cache.layers[0].transposed
  elif transposed is None:
    transposed = kv_cache.default_transposed()
  attention = attention or attention_lib.default_path(
    jax.default_backend(), dtype, config.attention_softcap
  )
  contexts = {
    kind: context.replace(attention=attention, sharding=sharding)
    for kind, context in _contexts(config, positions, cache, transposed).items()
  }
  if unroll:
    x, keys = _loop(config, params, x, contexts, cache, remat, sharding)
  elif cache is None:
    x, keys = _scan(config, params, x, contexts, remat, sharding), None
  else:
    # As a scan's input and output, every layer's cache would be copied twice.
    raise ValueError('a cache is only updated in place with unroll=True')
  final_norm = layers.RMSNorm(config.norm_epsilon)
  x = final_norm.apply({'params': params['final_norm']}, x)
  if cache is None:
    return x, keys
  stored = {kind: contexts[kind].stored_after for kind in cache.positions}
  return x, cache.after(keys, stored, tokens.shape[1])


def _contexts(config, positions, cache, transposed):
  """A `Context` for each layer kind; its RoPE and slots are computed once."""
  contexts = {}
  for kind in sorted(set(config.layer_kinds)):
    rope = _rope(config, kind, positions, constant=cache is None)
    context = Context(positions, rope, transposed=transposed)
    if cache is not None:
      stored = cache.positions[kind]
      slots = cache.slots_of(kind, positions)
      after = kv_cache.write_positions(stored, slots, positions)
      context = context.replace(
        slots=slots,
        stored=stored,
        stored_after=after,
        live=cache.live(kind, positions),
        segments=cache.segments,
      )
    contexts[kind] = context
  return contexts


def _rope(config, kind, positions, constant):
  if not constant:
    return layers.rope_table(positions, config.head_dim, *config.rope(kind))
  # Sequences without a cache start at 0. The table is a constant, since a
  # compiler may recompute cosines in every head and layer it fuses them into.
  with jax.ensure_compile_time_eval():
    index = jnp.arange(positions.shape[1])[None]
    return layers.rope_table(index, config.head_dim, *config.rope(kind))


def constrain(x, sharding):
  """A tree of arrays [B, ...] with this sharding of B; None: as they are."""
  return jax.lax.with_sharding_constraint(x, sharding) if sharding else x


def _apply_block(config, kind, remat, sharding):
  def apply(params, x, context, keys):
    x, keys = layers.Block(config, kind).apply(
      {'params': params}, x, context, keys
    )
    return constrain(x, sharding), keys

  return jax.checkpoint(apply) if remat else apply


def _loop(config, params, x, contexts, cache, remat, sharding):
  after = []
  for layer, kind in enumerate(config.layer_kinds):
    x, keys = _apply_block(config, kind, remat, sharding)(
      layer_params(config, params, layer),
      x,
      contexts[kind],
      cache.layers[layer] if cache else None,
    )
    after.append(keys)
  return x, tuple(after)


def _scan(config, params, x, contexts, remat, sharding):
  def period(x, stacked):
    for place, kind in enumerate(config.layer_pattern):
      apply = _apply_block(config, kind, remat, sharding)
      x, _ = apply(stacked[str(place)], x, contexts[kind], None)
    return x, None

  if config.num_repeats:
    x, _ = jax.lax.scan(period, x, params['pattern'])
  for place in range(config.num_remainder):
    kind = config.layer_pattern[place]
    apply = _apply_block(config, kind, remat, sharding)
    x, _ = apply(params['remainder'][str(place)], x, contexts[kind], None)
  return x
