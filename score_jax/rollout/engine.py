"""The compiled episode: K attempts of every sequence, all on the device.

Each problem is prefilled once and its cache shared by its samples. A turn is a
loop that feeds every sequence's newest token and draws the next one, until all
attempts have ended; then the turn separators go in as one block. One KV cache
serves the whole episode and no attempt is ever computed twice.

A sequence's newest token is never in the cache: the loop feeds it first. So the
last token of an attempt enters with the separator after it, and no forward pass
is spent on a token whose successor is not needed.
"""

import functools

from flax import struct
import jax
import jax.numpy as jnp

from score_jax import arrays, distributed
from score_jax.models import attention as attention_lib
from score_jax.models import kv_cache, model_config, transformer
from score_jax.rollout import (
  decode_loop,
  given_attempts,
  randomness,
  sampling,
  turn_separator,
)


@struct.dataclass
class _State:
  """Loop carry: the sequences so far, cached but for their newest token."""

  cache: kv_cache.KVCache | None
  tokens: jax.Array  # i32 [B, T]
  turn: jax.Array  # i32 [B, T]
  logprobs: jax.Array  # f32 [B, T]
  length: jax.Array  # i32 [B]
  finished: jax.Array  # bool [B, K]

  @property
  def newest(self):
    """Each sequence's newest token, i32 [B]."""
    return _at(self.tokens, self.length - 1)


@struct.dataclass
class _Rules:
  """How tokens are chosen and where attempts end; constant in an episode.

  `decode_loop.Rules` of all attempts.
  """

  separators: turn_separator.TurnSeparators
  max_new_tokens: jax.Array  # i32 [K]
  temperature: jax.Array  # f32 []
  uniforms: jax.Array | None  # f32 [B, T], for the token at t; None: greedy
  given_tokens: jax.Array  # i32 [B, K, A]
  given_length: jax.Array  # i32 [B, K]; 0: sampled
  forced_length: jax.Array | None  # i32 [B, K]


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
  rules = _Rules(
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
  rules = _Rules(
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
  has_all_heads,
):
  """The sequences of these prompts, as a `_State` without a cache."""
  forward = functools.partial(
    transformer.forward, config, params, dtype=dtype, transposed=transposed
  )
  unembed = functools.partial(transformer.unembed, config, params['embedding'])
  turns = len(max_new_tokens)

  def one_turn(turn, state):
    state = _attempt(
      forward, unembed, rules, turn, max(max_new_tokens), compactions, state
    )
    if turns == 1:
      return state
    append = functools.partial(_append, forward, rules.separators, turn)
    return _if_then(turn < turns - 1, append, state)

  state = _prefill(
    functools.partial(forward, attention=attention),
    config,
    prompts,
    total,
    turns,
    copies,
    block=rules.separators.longest,
    dtype=cache_dtype,
    segments=segments,
    has_all_heads=has_all_heads,
  )
  # A loop over turns too: the decode loop, most of the program, is compiled
  # once for all K attempts.
  state = jax.lax.fori_loop(0, turns, one_turn, state)
  return state.replace(cache=None)


def _prefill(forward, config, prompts, total, turns, copies, **options):
  """B sequences that hold the prompts, and their cache without the last token.

  The last token of a prompt is the first one that the decode loop feeds.
  `options` are those of `kv_cache.from_prefix`.
  """
  num_problems, prompt = prompts.tokens.shape
  index = jnp.arange(prompt)[None]
  positions = jnp.where(index < prompts.length[:, None] - 1, index, -1)
  _, prefix = forward(prompts.tokens, positions)
  cache = kv_cache.from_prefix(
    config, prefix, positions, total, copies=copies, **options
  )
  inside = index < prompts.length[:, None]
  # Problem-major, as the cache's copies: with whole problems on each device,
  # repeating needs no collective (tiling would).
  tokens = jnp.repeat(jnp.where(inside, prompts.tokens, 0), copies, axis=0)
  batch = num_problems * copies
  return _State(
    cache=cache,
    tokens=jnp.pad(tokens, ((0, 0), (0, total - prompt))),
    turn=jnp.zeros((batch, total), jnp.int32),
    logprobs=jnp.zeros((batch, total), jnp.float32),
    length=jnp.repeat(prompts.length, copies),
    finished=jnp.zeros((batch, turns), bool),
  )


def _attempt(forward, unembed, rules, turn, longest, compactions, state):
  """Decodes one attempt of every sequence and joins it to the sequences."""
  batch, total = state.tokens.shape
  column = jnp.arange(longest)[None]
  index = state.length[:, None] + column  # [B, A]
  uniforms = None
  if rules.uniforms is not None:
    uniforms = jnp.take_along_axis(rules.uniforms, index, axis=1, mode='clip')
  forced = rules.forced_length
  done = decode_loop.run(
    forward,
    unembed,
    decode_loop.Rules(
      separators=rules.separators,
      limit=rules.max_new_tokens[turn],
      temperature=rules.temperature,
      uniforms=uniforms,
      given_tokens=rules.given_tokens[:, turn],
      given_length=rules.given_length[:, turn],
      forced_length=None if forced is None else forced[:, turn],
      block_size=(
        sampling.CPU_BLOCK
        if state.cache.layers[0].transposed
        else sampling.ACCELERATOR_BLOCK
      ),
    ),
    decode_loop.begin(
      state.cache,
      state.newest,
      state.length - 1,
      longest,
      has_stop_texts=rules.separators.stop_table is not None,
    ),
    compactions,
  )
  stopped = rules.separators.is_stop(done.newest)
  if done.text_state is not None:
    stopped |= rules.separators.is_stop_text(done.text_state)
  # Index T is out of bounds, so that these writes are dropped.
  index = jnp.where(column < done.length[:, None], index, total)
  sequence = jnp.arange(batch)[:, None]

  def join(values, new):
    return values.at[sequence, index].set(new, mode='drop')

  return state.replace(
    cache=done.cache,
    tokens=join(state.tokens, done.tokens),
    turn=join(state.turn, turn + 1),
    logprobs=join(state.logprobs, done.logprobs),
    length=state.length + done.length,
    finished=state.finished.at[:, turn].set(stopped),
  )


def _append(forward, separators, turn, state):
  """Feeds each sequence's newest token and the separator after its attempt."""
  closed = state.finished[:, turn]
  if not separators.stop_text_closes_turn:
    closed = separators.is_stop(state.newest)
  given = jnp.where(
    closed[:, None],
    separators.after_stop[turn][None],
    separators.after_cut[turn][None],
  )  # [B, I]
  count = jnp.where(
    closed,
    separators.after_stop_length[turn],
    separators.after_cut_length[turn],
  )
  offset = jnp.arange(separators.longest)[None]
  inside = offset < count[:, None]
  index = jnp.where(
    inside, state.length[:, None] + offset, state.tokens.shape[1]
  )
  batch = jnp.arange(given.shape[0])[:, None]
  tokens = state.tokens.at[batch, index].set(given, mode='drop')
  # The separator's last token stays out of the cache, as the newest one does.
  block = jnp.concatenate([state.newest[:, None], given[:, :-1]], axis=1)
  positions = jnp.where(inside, state.length[:, None] - 1 + offset, -1)
  _, cache = forward(block, positions, state.cache)
  return state.replace(cache=cache, tokens=tokens, length=state.length + count)


def _if_then(condition, function, state):
  """`function(state)` if the condition holds, else the state.

  A loop of at most one pass, since it updates its carry in place; `lax.cond`
  would copy the whole cache in both of its branches.
  """
  state, _ = jax.lax.while_loop(
    lambda carry: carry[1],
    lambda carry: (function(carry[0]), jnp.zeros((), bool)),
    (state, condition),
  )
  return state


def _at(values, index):
  """values[b, index[b]] of [B, T]; an index beyond T is clipped."""
  picked = jnp.take_along_axis(values, index[:, None], axis=1, mode='clip')
  return picked[:, 0]
