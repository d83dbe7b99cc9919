"""The compiled episode: K attempts of every sequence, all on the device.

Each problem is prefilled once and its cache shared by its samples. A turn is a
loop that feeds every sequence's newest token and draws the next one, until all
attempts have ended; then the turn separators go in as one block. One KV cache
serves the whole episode and no attempt is ever computed twice.

Where the cache has fewer rows than there are sequences, `refilling` does that
for each row by itself.
"""

import functools

import jax
import jax.numpy as jnp

from score_jax import arrays, distributed
from score_jax.models import attention as attention_lib
from score_jax.models import kv_cache, model_config, transformer
from score_jax.rollout import (
  batch_rows,
  decode_loop,
  given_attempts,
  randomness,
  refilling,
  sequence_state,
  turn_separator,
)


@functools.partial(
  jax.jit,
  static_argnames=(
    'config',
    'max_new_tokens',
    'samples_per_problem',
    'greedy',
    'dtype',
    'cache_dtype',
    'transposed',
    'attention',
    'sharding',
    'compactions',
    'segments',
    'rows',
  ),
)
def sample_episodes(
  params,
  prompts: arrays.Prompts,
  sequence_keys: jax.Array,
  separators: turn_separator.TurnSeparators,
  *,
  config: model_config.ModelConfig,
  max_new_tokens: tuple[int, ...],
  samples_per_problem: int,
  temperature: jax.Array | float = 1.0,
  greedy: bool = False,
  given: given_attempts.GivenAttempts | None = None,
  forced_lengths: jax.Array | None = None,
  dtype=jnp.float32,
  cache_dtype=jnp.float32,
  transposed: bool | None = None,
  attention: attention_lib.Path | None = None,
  sharding: jax.sharding.NamedSharding | None = None,
  compactions: int = 0,
  segments: int = 1,
  rows: int | None = None,
) -> arrays.Trajectory:
  """Samples K attempts for G samples of each of N prompts.

  Args:
    params: the policy, from `inference_params`.
    prompts: of one bucket; lengths are at least 1.
    sequence_keys: [N * G] from `randomness.sequence_keys`.
    separators: where attempts end, and the text given between them; at least
      K - 1 of them.
    config: the model.
    max_new_tokens: most tokens of each attempt, stop token included.
    samples_per_problem: G.
    temperature: divides the logits; not used when greedy.
    greedy: take the best token, and report log-probabilities at temperature 1.
    given: off-policy attempts, each cut off after its `max_new_tokens` or its
      first stop text; None: all are sampled.
    forced_lengths: i32 [B, K] in [1, max_new_tokens]; attempts end after
      exactly that many tokens, the last a stop token, whatever was drawn, stop
      texts included; for tests and benchmarks.
    dtype: of the activations.
    cache_dtype: of keys and values.
    transposed: layout of the cache, see `kv_cache.Keys`; None: the one for the
      default device. A program compiled for another platform must name it.
    attention: path of the prefill's attention, see `transformer.forward`; what
      holds for `transposed` holds for it.
    sharding: of the batch axis over several devices; None: one device.
    compactions: most batch compactions in a turn: when half of a device's
      sequences have ended, the rest go on in a batch of half the size. Pays
      where attempts' lengths differ widely; each costs half a cache of memory
      and one more decode loop to compile.
    segments: that attention reads the cache in, up to the last live one, see
      `cache_attention.attend_live`.
    rows: most sequences that a copy of the weights decodes at once; None: all
      of its own. Those that are complete are followed by the next ones, see
      `refilling`, and compactions are left for when none waits.

  Returns:
    A trajectory of B = N * G sequences of T tokens, see
    `turn_separator.sequence_length`.
  """
  num_problems, prompt = prompts.tokens.shape
  turns = len(max_new_tokens)
  if given is None:
    given = given_attempts.none(num_problems * samples_per_problem, turns)
  total = turn_separator.sequence_length(
    prompt, max_new_tokens, separators.longest
  )
  rules = sequence_state.Rules(
    separators,
    max_new_tokens=jnp.array(max_new_tokens),
    temperature=jnp.float32(1.0 if greedy else temperature),
    # For all positions at once: inside a loop, threefry would run per token.
    uniforms=None if greedy else randomness.uniforms(sequence_keys, total),
    given_tokens=given.tokens,
    given_length=jnp.minimum(
      given.length,
      jnp.minimum(jnp.array(max_new_tokens), given.tokens.shape[2])[None],
    ),
    forced_length=forced_lengths,
  )
  episodes = functools.partial(
    _episodes,
    config=config,
    total=total,
    max_new_tokens=max_new_tokens,
    copies=samples_per_problem,
    dtype=dtype,
    cache_dtype=cache_dtype,
    transposed=transposed,
    attention=attention,
    compactions=compactions,
    segments=segments,
    rows=rows,
    has_all_heads=(
      sharding is None
      or distributed.batch_shards(sharding) == sharding.mesh.size
    ),
  )
  if sharding is not None:
    episodes = _on_each_copy(episodes, sharding)
  state = episodes(params, prompts, rules)
  problems = jnp.arange(num_problems, dtype=jnp.int32)
  trajectory = arrays.Trajectory(
    tokens=state.tokens,
    turn=state.turn,
    sampled=given.length == 0,
    logprobs=state.logprobs,
    length=state.length,
    finished=state.finished,
    problem_index=jnp.repeat(problems, samples_per_problem),
  )
  # Else the compiler may gather what is returned, at every token.
  return transformer.constrain(trajectory, sharding)


def _on_each_copy(episodes, sharding):
  """Episodes of each copy of the weights by itself, which waits for no other.

  Loops end when a copy's own sequences have, and compaction picks among them:
  no array of a sequence crosses copies. A copy that several devices share is
  left to the compiler.
  """
  sequences = sharding.spec
  everywhere = jax.sharding.PartitionSpec()
  rules = sequence_state.Rules(
    separators=everywhere,
    max_new_tokens=everywhere,
    temperature=everywhere,
    uniforms=sequences,
    given_tokens=sequences,
    given_length=sequences,
    forced_length=sequences,
  )
  return jax.shard_map(
    episodes,
    mesh=sharding.mesh,
    in_specs=(everywhere, sequences, rules),
    out_specs=sequences,
    axis_names=set(jax.tree.leaves(tuple(sequences))),
    check_vma=False,
  )


def _episodes(
  params,
  prompts,
  rules,
  *,
  config,
  total,
  max_new_tokens,
  copies,
  dtype,
  cache_dtype,
  transposed,
  attention,
  compactions,
  segments,
  rows,
  has_all_heads,
):
  """The sequences of these prompts, as `Sequences` without a cache."""
  forward = functools.partial(
    transformer.forward, config, params, dtype=dtype, transposed=transposed
  )
  unembed = functools.partial(transformer.unembed, config, params['embedding'])
  prefix, positions = _prefill(
    functools.partial(forward, attention=attention), prompts
  )
  new_cache = functools.partial(
    kv_cache.from_prefix,
    config,
    length=total,
    block=rules.separators.longest,
    dtype=cache_dtype,
    segments=segments,
    has_all_heads=has_all_heads,
  )
  started = _start(prompts, total, len(max_new_tokens), copies)
  longest = max(max_new_tokens)
  if rows is None or rows >= started.length.shape[0]:
    cache = new_cache(prefix, positions, copies=copies)
    state = started.replace(cache=cache)
    return _in_step(forward, unembed, rules, state, longest, compactions)

  def cache_of(index):
    problems = index // copies
    return new_cache(
      batch_rows.pick(prefix, problems), positions[problems], lock_step=False
    )

  return refilling.run(
    forward,
    unembed,
    rules,
    started,
    cache_of,
    rows=rows,
    longest=longest,
    compactions=compactions,
  )


def _prefill(forward, prompts):
  """Keys of the prompts without their last tokens, and these positions.

  The last token of a prompt is the first one that the decode loop feeds.
  """
  index = jnp.arange(prompts.tokens.shape[1])[None]
  positions = jnp.where(index < prompts.length[:, None] - 1, index, -1)
  _, prefix = forward(prompts.tokens, positions)
  return prefix, positions


def _start(prompts, total, turns, copies):
  """B sequences that hold the prompts, without a cache."""
  num_problems, prompt = prompts.tokens.shape
  inside = jnp.arange(prompt)[None] < prompts.length[:, None]
  # Problem-major, as the cache's copies: with whole problems on each device,
  # repeating needs no collective (tiling would).
  tokens = jnp.repeat(jnp.where(inside, prompts.tokens, 0), copies, axis=0)
  batch = num_problems * copies
  return sequence_state.Sequences(
    cache=None,
    tokens=jnp.pad(tokens, ((0, 0), (0, total - prompt))),
    turn=jnp.zeros((batch, total), jnp.int32),
    logprobs=jnp.zeros((batch, total), jnp.float32),
    length=jnp.repeat(prompts.length, copies),
    finished=jnp.zeros((batch, turns), bool),
  )


def _in_step(forward, unembed, rules, state, longest, compactions):
  """All sequences at once, each turn of all of them after the one before."""
  turns = state.finished.shape[1]
  transposed = state.cache.layers[0].transposed

  def one_turn(turn, state):
    done = decode_loop.run(
      forward,
      unembed,
      rules.of_attempts(turn, state.length, longest, transposed),
      state.begin(rules, longest),
      compactions,
    )
    state = state.join(turn, done, rules.separators)
    if turns == 1:
      return state
    return batch_rows.if_then(
      turn < turns - 1,
      lambda state: state.separate(forward, turn, rules.separators),
      state,
    )

  # A loop over turns too: the decode loop, most of the program, is compiled
  # once for all K attempts.
  state = jax.lax.fori_loop(0, turns, one_turn, state)
  return state.replace(cache=None)
