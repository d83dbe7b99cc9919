"""Small policies and episodes that tests share: every generation in miniature.

Widths, heads and windows are chosen so that nothing is square, nothing divides
by accident, and a row of 40 tokens wraps every window several times.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from score_jax import arrays
from score_jax.models import config as model_config
from score_jax.models import transformer
from score_jax.rollout import engine

VOCAB = 61
STOP = 1
OTHER_STOP = 5

CONFIGS = {
  # Multi-query, global attention only, bfloat16-rounded embedding scale.
  'gemma1': model_config.ModelConfig(
    vocab_size=VOCAB,
    width=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=1,
    head_dim=10,
    mlp_width=40,
    round_embedding_scale=True,
  ),
  # Alternating windows, both soft-caps, post-norms, grouped queries.
  'gemma2': model_config.ModelConfig(
    vocab_size=VOCAB,
    width=24,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=10,
    mlp_width=40,
    layer_pattern=('local', 'global'),
    window=6,
    query_scale=0.25,
    post_norms=True,
    attention_softcap=5.0,
    final_softcap=6.0,
  ),
  # Five local layers a global one and a remainder; QK-norm, two RoPE bases.
  'gemma3': model_config.ModelConfig(
    vocab_size=VOCAB,
    width=24,
    num_layers=7,
    num_heads=4,
    num_kv_heads=2,
    head_dim=10,
    mlp_width=40,
    layer_pattern=('local',) * 5 + ('global',),
    window=5,
    qk_norm=True,
    post_norms=True,
    local_rope_base=10_000.0,
    global_rope_base=1_000_000.0,
    global_rope_scale=8.0,
  ),
}


@functools.cache
def params(name: str, seed: int = 0):
  """Parameters whose every leaf is random, norm scales too."""
  fresh = transformer.init_params(CONFIGS[name], jax.random.key(seed))
  leaves, tree = jax.tree.flatten(fresh)
  keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
  noisy = [
    leaf + 0.2 * jax.random.normal(key, leaf.shape) * (leaf == 0)
    for leaf, key in zip(leaves, keys)
  ]
  return jax.tree.unflatten(tree, noisy)


def prompts(lengths, width: int, seed: int = 0) -> arrays.Prompts:
  """Random prompts, padded with ids that would do harm if they counted."""
  rng = np.random.default_rng(seed)
  tokens = rng.integers(6, VOCAB, (len(lengths), width))
  for row, length in zip(tokens, lengths):
    row[length:] = STOP
  return arrays.Prompts(
    jnp.asarray(tokens, jnp.int32), jnp.asarray(lengths, jnp.int32)
  )


def boundaries(turns: int, stop_ids=(STOP, OTHER_STOP)) -> engine.Boundaries:
  """Given blocks of unequal length: k + 2 ids after a stop, one more if cut."""
  width = turns + 3
  stop = np.zeros((turns - 1, width), np.int32)
  cut = np.zeros((turns - 1, width), np.int32)
  lengths = np.array([k + 2 for k in range(turns - 1)], np.int32)
  for k, length in enumerate(lengths):
    stop[k, :length] = 20 + 10 * k + np.arange(length)
    cut[k, 0] = stop_ids[0]
    cut[k, 1 : length + 1] = stop[k, :length]
  return engine.Boundaries(
    jnp.asarray(stop),
    jnp.asarray(lengths),
    jnp.asarray(cut),
    jnp.asarray(lengths + 1),
    jnp.asarray(stop_ids, jnp.int32),
  )


@functools.partial(jax.jit, static_argnames=('config', 'dtype'))
def full_logits(config, params, tokens, length, dtype=jnp.float32):
  """f32 [B, T, V] of one pass over whole rows, without a cache."""
  index = jnp.arange(tokens.shape[1])[None]
  positions = jnp.where(index < length[:, None], index, -1)
  hidden, _ = transformer.forward(
    config, params, tokens, positions, dtype=dtype
  )
  return transformer.unembed(config, params['embedding'], hidden)


def teacher_forced(
  config, params, trajectory, temperature=1.0, dtype=jnp.float32
) -> np.ndarray:
  """Log-probabilities [B, T] of the rows as they are, 0 where not sampled."""
  logits = full_logits(
    config, params, trajectory.tokens, trajectory.length, dtype=dtype
  )
  logprobs = np.asarray(jax.nn.log_softmax(logits / temperature))
  tokens, turn = np.asarray(trajectory.tokens), np.asarray(trajectory.turn)
  sampled = np.asarray(trajectory.sampled)
  out = np.zeros(tokens.shape, np.float32)
  for b in range(tokens.shape[0]):
    for t in range(1, tokens.shape[1]):
      if turn[b, t] and sampled[b, turn[b, t] - 1]:
        out[b, t] = logprobs[b, t - 1, tokens[b, t]]
  return out
