"""One attempt of every sequence: draws tokens until all attempts have ended.

A sequence's newest token is not in the cache: each pass of the loop feeds it
and draws the next one. Tokens are collected in columns, column c for the c-th
token of every attempt, so that a pass writes slices and scatters nothing, where
all attempts have begun together.
"""

from collections.abc import Callable
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp

from score_jax.models import kv_cache
from score_jax.rollout import batch_rows, sampling, turn_separator


@struct.dataclass
class Rules:
  """How an attempt's tokens are chosen and where it ends.

  Attributes:
    separators: of the episode.
    limit: most tokens, i32 [] or [B].
    temperature: f32 [].
    uniforms: f32 [B, A], for the token of a column; None: greedy.
    given_tokens: i32 [B, A], in place of drawn ones.
    given_length: i32 [B]; 0: the attempt is sampled.
    forced_length: i32 [B]; None: attempts end where they end.
    block_size: of `sampling.draw`.
  """

  separators: turn_separator.TurnSeparators
  limit: jax.Array
  temperature: jax.Array
  uniforms: jax.Array | None
  given_tokens: jax.Array
  given_length: jax.Array
  forced_length: jax.Array | None
  block_size: int = struct.field(pytree_node=False)


def of_sequences(rules: Any, index: jax.Array) -> Any:
  """The rules of the sequences at `index`, in that order.

  Args:
    rules: of one attempt, or `sequence_state.Rules` of all.
    index: i32 [any].
  """
  names = ('uniforms', 'given_tokens', 'given_length', 'forced_length')
  return rules.replace(
    **{name: batch_rows.pick(getattr(rules, name), index) for name in names}
  )


@struct.dataclass
class Attempts:
  """Loop carry: an attempt of every sequence.

  Attributes:
    cache: of all tokens but the newest.
    newest: token of each sequence, i32 [B].
    position: of the newest token, i32 [B].
    active: attempts that have not ended, bool [B].
    tokens: i32 [B, A]; only the first `length` of a row are of its attempt.
    logprobs: f32 [B, A], 0 for given tokens.
    length: i32 [B].
    count: i32 []; tokens of active attempts. None: of each its `length`.
    text_state: of the stop texts' automaton, i32 [B]; None: there are none.
  """

  cache: kv_cache.KVCache
  newest: jax.Array
  position: jax.Array
  active: jax.Array
  tokens: jax.Array
  logprobs: jax.Array
  length: jax.Array
  count: jax.Array | None
  text_state: jax.Array | None


def begin(
  cache: kv_cache.KVCache,
  newest: jax.Array,
  position: jax.Array,
  longest: int,
  has_stop_texts: bool,
  in_step: bool = True,
) -> Attempts:
  """Attempts without a token yet.

  Args:
    cache: of all tokens but the newest.
    newest: token of each sequence, i32 [B].
    position: of it, i32 [B].
    longest: A, tokens of the longest possible attempt.
    has_stop_texts: whether the automaton of stop texts is needed.
    in_step: whether all attempts begin together.
  """
  batch = newest.shape[0]
  nothing = jnp.zeros(batch, jnp.int32)
  return Attempts(
    cache=cache,
    newest=newest,
    position=position,
    active=jnp.ones(batch, bool),
    tokens=jnp.zeros((batch, longest), jnp.int32),
    logprobs=jnp.zeros((batch, longest), jnp.float32),
    length=nothing,
    count=jnp.int32(0) if in_step else None,
    text_state=nothing if has_stop_texts else None,
  )


def run(
  forward: Callable[..., tuple[jax.Array, kv_cache.KVCache]],
  unembed: Callable[[jax.Array], jax.Array],
  rules: Rules,
  attempts: Attempts,
  compactions: int,
) -> Attempts:
  """Draws the tokens of active attempts until all have ended.

  With compactions, the loop ends when half of the attempts have; the rest go on
  in a batch of half the size, whose results are scattered back.

  Args:
    forward: (tokens [B, 1], positions [B, 1], cache) -> hidden states, cache.
    unembed: hidden states [B, D] -> logits f32 [B, V].
    rules: of the attempt.
    attempts: from `begin`.
    compactions: most of them.
  """
  # Shapes cannot shrink inside a loop, hence a loop for each batch size.
  half = attempts.active.shape[0] // 2 if compactions else 0
  attempts = jax.lax.while_loop(
    lambda carry: carry.active.sum() > half,
    lambda carry: step(forward, unembed, rules, carry),
    attempts,
  )
  if not half:
    return attempts
  index = jnp.argsort(~attempts.active)[:half]  # all active ones first
  part = run(
    forward,
    unembed,
    of_sequences(rules, index),
    batch_rows.pick(attempts, index),
    compactions - 1,
  )
  return batch_rows.put(attempts, index, part)


def step(
  forward: Callable[..., tuple[jax.Array, kv_cache.KVCache]],
  unembed: Callable[[jax.Array], jax.Array],
  rules: Rules,
  attempts: Attempts,
) -> Attempts:
  """Feeds the newest token of active attempts and draws the next one.

  Args are those of `run`.
  """
  active, count = attempts.active, attempts.count
  place = attempts.length if count is None else count
  # Position -1 is padding: sequences that have ended store no keys.
  positions = jnp.where(active, attempts.position, -1)
  hidden, cache = forward(
    attempts.newest[:, None], positions[:, None], attempts.cache
  )
  logits = unembed(hidden[:, 0]) / rules.temperature
  token, logprob, ends = _next_token(rules, logits, place)
  text_state = attempts.text_state
  if text_state is not None:
    # What ended sequences draw is not part of their attempts.
    text_state = jnp.where(
      active, rules.separators.read(text_state, token), text_state
    )
    if rules.forced_length is None:
      ends |= rules.separators.is_stop_text(text_state)
  return attempts.replace(
    cache=cache,
    newest=jnp.where(active, token, attempts.newest),
    position=attempts.position + active,
    active=active & ~ends,
    tokens=_put_column(attempts.tokens, token, place),
    logprobs=_put_column(attempts.logprobs, logprob, place),
    length=attempts.length + active,
    count=None if count is None else count + 1,
    text_state=text_state,
  )


def _next_token(rules, logits, count):
  """Each sequence's next token: drawn, forced or given.

  Args:
    rules: of the attempt.
    logits: f32 [B, V], divided by the temperature.
    count: i32 [] or [B]; tokens that active attempts have.

  Returns:
    token i32 [B]; its log-probability f32 [B], 0 if given; whether it ends the
    attempt, bool [B].
  """
  if rules.uniforms is None:
    token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
  else:
    uniform = _column(rules.uniforms, count)
    token = sampling.draw(logits, uniform, rules.block_size)
  if rules.forced_length is None:
    ends = rules.separators.is_stop(token) | (count + 1 == rules.limit)
  else:
    ends = count + 1 == jnp.clip(rules.forced_length, 1, rules.limit)
    token = jnp.where(ends, rules.separators.stop_ids[0], token)
  is_given = rules.given_length > 0
  # Sequences that sample may be past the longest given attempt: clamped.
  token = jnp.where(is_given, _column(rules.given_tokens, count), token)
  ends = jnp.where(is_given, count + 1 == rules.given_length, ends)
  logprob = jnp.where(is_given, 0.0, sampling.logprob(logits, token))
  return token, logprob, ends


def _column(values, index):
  """values[:, index] of [B, A]; an index, i32 [] or [B], is clamped to A."""
  if index.ndim == 0:
    return jax.lax.dynamic_index_in_dim(values, index, axis=1, keepdims=False)
  picked = jnp.take_along_axis(values, index[:, None], axis=1, mode='clip')
  return picked[:, 0]


def _put_column(values, new, index):
  """`values` [B, A] with `new` [B] as column `index`, i32 [] or [B].

  Of attempts that have ended, what is put is not part of them.
  """
  if index.ndim == 0:
    return jax.lax.dynamic_update_slice_in_dim(
      values, new[:, None], index, axis=1
    )
  return values.at[jnp.arange(len(new)), index].set(new, mode='drop')
