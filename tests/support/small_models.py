"""Small policies and episodes that tests share: every generation in miniature.

Widths, heads and windows are chosen so that nothing is square, nothing divides
by accident, and a sequence of 40 tokens wraps every window several times.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from score_jax import arrays
from score_jax.models import (
  inference,
  lora,
  model_config,
  stop_automaton,
  token_logprobs,
  transformer,
)
from score_jax.rollout import engine, given_attempts, randomness, turn_separator

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
  # Two local layers a global one, QK-norm, two RoPE bases.
  'gemma3': model_config.ModelConfig(
    vocab_size=VOCAB,
    width=24,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=10,
    mlp_width=40,
    layer_pattern=('local', 'local', 'global'),
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
  init = jax.jit(transformer.init_params, static_argnums=0)
  fresh = jax.device_get(init(CONFIGS[name], jax.random.key(seed)))
  rng = np.random.default_rng(seed)

  def noisy(path, leaf):
    if path[-1].key == 'scale':
      leaf = leaf + 0.2 * rng.normal(size=leaf.shape).astype(np.float32)
    return jnp.asarray(leaf)

  return jax.tree_util.tree_map_with_path(noisy, fresh)


def prompts(lengths, width: int, seed: int = 0) -> arrays.Prompts:
  """Random prompts, padded with ids that would do harm if they counted."""
  rng = np.random.default_rng(seed)
  tokens = rng.integers(6, VOCAB, (len(lengths), width))
  for prompt, length in zip(tokens, lengths):
    prompt[length:] = STOP
  return arrays.Prompts(
    jnp.asarray(tokens, jnp.int32), jnp.asarray(lengths, jnp.int32)
  )


def separators(
  turns: int, stop_ids=(STOP, OTHER_STOP)
) -> turn_separator.TurnSeparators:
  """Separators of unequal length: k + 2 ids after a stop, one more if cut."""
  width = turns + 3
  stop = np.zeros((turns - 1, width), np.int32)
  cut = np.zeros((turns - 1, width), np.int32)
  lengths = np.array([k + 2 for k in range(turns - 1)], np.int32)
  for k, length in enumerate(lengths):
    stop[k, :length] = 20 + 10 * k + np.arange(length)
    cut[k, 0] = stop_ids[0]
    cut[k, 1 : length + 1] = stop[k, :length]
  return turn_separator.TurnSeparators(
    jnp.asarray(stop),
    jnp.asarray(lengths),
    jnp.asarray(cut),
    jnp.asarray(lengths + 1),
    jnp.asarray(stop_ids, jnp.int32),
  )


STOP_TEXTS = (b'aab', b'bbb')
# Made-up bytes of the vocabulary's pieces: 0 to 3 letters.
PIECES = tuple(
  bytes(np.random.default_rng(i).choice([97, 98], i % 4).tolist())
  for i in range(VOCAB)
)


def with_stop_texts(
  made: turn_separator.TurnSeparators, *, closes_turn: bool = True
) -> turn_separator.TurnSeparators:
  """The separators with `STOP_TEXTS`."""
  table = stop_automaton.transition_table(STOP_TEXTS, PIECES)
  return made.replace(
    stop_table=jnp.asarray(table), stop_text_closes_turn=closes_turn
  )


@functools.partial(jax.jit, static_argnames=('config', 'dtype'))
def full_logits(config, params, tokens, length, dtype=jnp.float32):
  """f32 [B, T, V] of one pass over whole sequences, without a cache."""
  index = jnp.arange(tokens.shape[1])[None]
  positions = jnp.where(index < length[:, None], index, -1)
  hidden, _ = transformer.forward(
    config, params, tokens, positions, dtype=dtype
  )
  return transformer.unembed(config, params['embedding'], hidden)


@functools.partial(jax.jit, static_argnames=('config', 'dtype'))
def update_logprobs(config, params, tokens, length, temperature, dtype):
  """f32 [B, T] as the update computes them: layers scanned, head in chunks."""
  index = jnp.arange(tokens.shape[1])[None]
  positions = jnp.where(index < length[:, None], index, -1)
  hidden, _ = transformer.forward(
    config, params, tokens, positions, dtype=dtype, unroll=False
  )
  statistics = token_logprobs.token_statistics(
    config,
    params['embedding'],
    hidden,
    tokens,
    temperature=temperature,
    chunk=7,
  )
  return statistics.logprob


def teacher_forced(
  config, params, trajectory, temperature=1.0, dtype=jnp.float32
) -> np.ndarray:
  """Log-probabilities [B, T] from `update_logprobs`, 0 where not sampled."""
  logprobs = update_logprobs(
    config, params, trajectory.tokens, trajectory.length, temperature, dtype
  )
  return np.where(is_sampled(trajectory), logprobs, 0.0)


def is_sampled(trajectory) -> np.ndarray:
  """Which tokens were drawn from the policy, bool [B, T], by a slow loop."""
  turn, sampled = np.asarray(trajectory.turn), np.asarray(trajectory.sampled)
  out = np.zeros(turn.shape, bool)
  for b, t in np.argwhere(turn > 0):
    out[b, t] = sampled[b, turn[b, t] - 1]
  return out


LIMITS = (8, 9, 6)
PROMPT_LENGTHS = (1, 12, 5, 9)
SAMPLES = 2


def sequence_keys(seed: int = 0, problems: int = 4, samples: int = SAMPLES):
  """Keys of the samples of problems 'p0', 'p1', ..."""
  key = randomness.stream(seed, 'train', 'stage1', 0)
  names = [f'p{i}' for i in range(problems)]
  return randomness.sequence_keys(key, names, samples)


def run(name: str, turns: int, *, seed: int = 0, **options):
  """Episodes of four prompts with two samples each; options as the engine's.

  Calls that differ in no static option share one compiled program.
  """
  return engine.sample_episodes(**arguments(name, turns, seed=seed, **options))


def arguments(name: str, turns: int, *, seed: int = 0, **options):
  """Arguments of the engine for `run`."""
  batch = len(PROMPT_LENGTHS) * SAMPLES
  defaults = {
    'params': inference.inference_params(
      params(name), options.get('dtype', jnp.float32)
    ),
    'prompts': prompts(PROMPT_LENGTHS, max(PROMPT_LENGTHS)),
    'sequence_keys': sequence_keys(seed),
    'separators': separators(turns),
    'config': CONFIGS[name],
    'max_new_tokens': LIMITS[:turns],
    'samples_per_problem': SAMPLES,
    'temperature': 1.0,
    'given': no_given_attempts(batch, turns),
  }
  return defaults | options


def no_given_attempts(batch: int, turns: int) -> given_attempts.GivenAttempts:
  """No given attempts, in the shapes of given ones: the same program serves."""
  return given_attempts.GivenAttempts(
    jnp.zeros((batch, turns, max(LIMITS)), jnp.int32),
    jnp.zeros((batch, turns), jnp.int32),
  )


def adapters(params, *, rank: int = 4, seed: int = 0, **options):
  """Adapters of parameters, large enough that the policy is another one."""
  fresh = _init_adapters(params, jax.random.key(seed), rank=rank, **options)
  rng = np.random.default_rng(seed)

  def noisy(leaf):
    noise = 0.1 * rng.normal(size=leaf.shape).astype(np.float32)
    return leaf + jnp.asarray(noise)

  return jax.tree.map(noisy, fresh)


_init_adapters = jax.jit(
  lora.init_adapters, static_argnames=('rank', 'alpha', 'targets')
)
