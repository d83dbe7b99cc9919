"""The decoder: one function of (params, tokens, positions, cache).

`forward` serves prefill, decode and update alike, so that the policy that is
sampled and the policy that is trained can only differ by rounding. Parameters
are one tree whatever the execution: the layers of each place in the layer
pattern are stacked along a leading axis, what is left over stays apart.
`unroll` chooses between a Python loop and `lax.scan` over the repetitions.
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
  """What all layers of one kind share in a call of `forward`.

  Attributes:
    positions: of the block's tokens, i32 [B, S], -1 for padding.
    rope: cosines and sines.
    slots: where the block goes in the cache, i32 [B, S]; None without one.
    stored: positions in the cache before the block, i32 [B, slots].
    stored_after: the same after it.
    transposed: layout of the block's keys, see `kv_cache.Keys`.
    attention: path of `attention.attend`, used without a cache.
    rows: where rows lie, for that path.
  """

  positions: jax.Array
  rope: tuple[jax.Array, jax.Array]
  slots: jax.Array | None = None
  stored: jax.Array | None = None
  stored_after: jax.Array | None = None
  transposed: bool = struct.field(pytree_node=False, default=False)
  attention: attention_lib.Path = struct.field(pytree_node=False, default='xla')
  rows: jax.sharding.Sharding | None = struct.field(
    pytree_node=False, default=None
  )


def init_boxed(config: model_config.ModelConfig, key: jax.Array):
  """Fresh parameters with their logical axis names (linen partition boxes)."""
  embed_key, *layer_keys = jax.random.split(key, 1 + config.num_layers)
  period = len(config.layer_pattern)
  repeats = config.num_repeats
  x = jnp.zeros((1, 1, config.width))
  contexts = _contexts(config, jnp.zeros((1, 1), jnp.int32), None, False)

  def block(kind, key):
    module = layers.Block(config, kind)
    return module.init(key, x, contexts[kind])['params']

  def stacked(place):
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
  """Fresh float32 parameters as a plain tree of arrays."""
  return nn.meta.unbox(init_boxed(config, key))


def logical_axes(config: model_config.ModelConfig):
  """The parameters' logical axis names, a tuple for each leaf of the tree."""
  boxed = jax.eval_shape(lambda: init_boxed(config, jax.random.key(0)))
  return jax.tree.map(
    lambda box: tuple(box.names),
    boxed,
    is_leaf=lambda leaf: isinstance(leaf, nn.meta.AxisMetadata),
  )


def unstack(params):
  """The parameters with a tree of its own for each layer, under 'layers'.

  For programs that loop over tokens: there a layer that is cut out of a stack
  is copied for every token. `forward` takes both forms, but scans over layers
  only in stacks.
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
  """The parameters with matrices in a dtype; norm scales stay in float32.

  With activations of that dtype nothing is lost: `forward` casts matrices to
  it where it uses them, and norms work in float32.
  """

  def matrix(path, leaf):
    is_scale = getattr(path[-1], 'key', None) == 'scale'
    return leaf if is_scale else leaf.astype(dtype)

  return jax.tree.map_with_path(matrix, params)


def layer_params(config: model_config.ModelConfig, params, layer: int):
  """Parameters of one layer, out of the stacks or of `unstack`'s tree."""
  if 'layers' in params:
    return params['layers'][str(layer)]
  period = len(config.layer_pattern)
  repeat, place = divmod(layer, period)
  if repeat == config.num_repeats:
    return params['remainder'][str(place)]
  return jax.tree.map(lambda p: p[repeat], params['pattern'][str(place)])


def embed(config: model_config.ModelConfig, params, tokens, dtype):
  """Scaled input embeddings [B, S, D] of tokens i32 [B, S]."""
  scale = jnp.float32(config.width) ** 0.5
  if config.round_embedding_scale:
    scale = scale.astype(jnp.bfloat16)
  return params['embedding'][tokens].astype(dtype) * scale.astype(dtype)


def unembed(config: model_config.ModelConfig, embedding, hidden):
  """Logits f32 [..., V] of normed hidden states [..., D], soft-capped.

  Args:
    config: the model.
    embedding: the tied table [V, D].
    hidden: final hidden states.
  """
  logits = jax.lax.dot_general(
    hidden,
    embedding.astype(hidden.dtype),
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
  attention: attention_lib.Path = 'xla',
  rows: jax.sharding.Sharding | None = None,
):
  """Final hidden states of a block of tokens after what the cache holds.

  Args:
    config: the model.
    params: as from `init_params`, or, unrolled, from `unstack`.
    tokens: i32 [B, S].
    positions: i32 [B, S], each token's index in its row, -1 for padding.
    cache: keys of the tokens before; None: the block is the whole row.
    dtype: of the activations.
    unroll: a Python loop over layers; False: `lax.scan` over the repetitions
      of the layer pattern (only without a cache).
    remat: recompute each block's activations in the backward pass.
    transposed: layout of the block's keys without a cache (with one, it is the
      cache's); None: the one for the default device. A program for another
      platform must say what it wants.
    attention: path of `attention.attend`, used without a cache.
    rows: where the residual stream lies, its rows spread and nothing else;
      None: where the compiler likes. Beside weights that are spread over the
      devices it likes to spread the width, and adds up every product of every
      layer across devices instead of gathering the layer's weights.

  Returns:
    hidden [B, S, D] after the final norm, and: the updated cache; without a
    cache and unrolled, the block's keys, a `kv_cache.Keys` a layer; else None.
  """
  x = _lay(embed(config, params, tokens, dtype), rows)
  if cache is not None:
    transposed = cache.layers[0].transposed
  elif transposed is None:
    transposed = kv_cache.default_transposed()
  contexts = {
    kind: context.replace(attention=attention, rows=rows)
    for kind, context in _contexts(config, positions, cache, transposed).items()
  }
  if unroll:
    x, keys = _loop(config, params, x, contexts, cache, remat, rows)
  elif cache is None:
    x, keys = _scan(config, params, x, contexts, remat, rows), None
  else:
    raise ValueError('a cache is only updated in place with unroll=True')
  x = layers.RMSNorm().apply({'params': params['final_norm']}, x)
  if cache is None:
    return x, keys
  stored = {kind: contexts[kind].stored_after for kind in cache.positions}
  return x, kv_cache.KVCache(keys, stored)


def _contexts(config, positions, cache, transposed):
  contexts = {}
  for kind in sorted(set(config.layer_kinds)):
    rope = _rope(config, kind, positions, constant=cache is None)
    context = Context(positions, rope, transposed=transposed)
    if cache is not None:
      stored = cache.positions[kind]
      slots = kv_cache.write_slots(stored, positions)
      after = kv_cache.write_positions(stored, slots, positions)
      context = context.replace(slots=slots, stored=stored, stored_after=after)
    contexts[kind] = context
  return contexts


def _rope(config, kind, positions, constant):
  if not constant:
    return layers.rope_table(positions, config.head_dim, *config.rope(kind))
  # Rows without a cache start at 0. Of a constant table, since a compiler may
  # make cosines anew for every head and layer that they are fused into.
  with jax.ensure_compile_time_eval():
    index = jnp.arange(positions.shape[1])[None]
    return layers.rope_table(index, config.head_dim, *config.rope(kind))


def _lay(x, sharding):
  return jax.lax.with_sharding_constraint(x, sharding) if sharding else x


def _apply_block(config, kind, remat, rows):
  def apply(params, x, context, keys):
    x, keys = layers.Block(config, kind).apply(
      {'params': params}, x, context, keys
    )
    return _lay(x, rows), keys

  return jax.checkpoint(apply) if remat else apply


def _loop(config, params, x, contexts, cache, remat, rows):
  after = []
  for layer, kind in enumerate(config.layer_kinds):
    x, keys = _apply_block(config, kind, remat, rows)(
      layer_params(config, params, layer),
      x,
      contexts[kind],
      cache.layers[layer] if cache else None,
    )
    after.append(keys)
  return x, tuple(after)


def _scan(config, params, x, contexts, remat, rows):
  def period(x, stacked):
    for place, kind in enumerate(config.layer_pattern):
      apply = _apply_block(config, kind, remat, rows)
      x, _ = apply(stacked[str(place)], x, contexts[kind], None)
    return x, None

  if config.num_repeats:
    x, _ = jax.lax.scan(period, x, params['pattern'])
  for place in range(config.num_remainder):
    kind = config.layer_pattern[place]
    apply = _apply_block(config, kind, remat, rows)
    x, _ = apply(params['remainder'][str(place)], x, contexts[kind], None)
  return x
