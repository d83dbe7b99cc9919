"""Sequences between attempts: an attempt joins them, a separator follows it.

A sequence's newest token is never in the cache: the decode loop feeds it first.
So the last token of an attempt enters with the separator after it, and no
forward pass is spent on a token whose successor is not needed.
"""

from collections.abc import Callable

from flax import struct
import jax
import jax.numpy as jnp

from score_jax.models import kv_cache
from score_jax.rollout import decode_loop, sampling, turn_separator


@struct.dataclass
class Rules:
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

  def of_attempts(
    self, turn: jax.Array, start: jax.Array, longest: int, transposed: bool
  ) -> decode_loop.Rules:
    """The rules of one attempt of every sequence.

    Args:
      turn: of the attempts, i32 [] or [B], from 0.
      start: index of their first tokens, i32 [B].
      longest: A, tokens of the longest possible attempt.
      transposed: layout of the cache, which tells the platform.
    """
    index = start[:, None] + jnp.arange(longest)[None]  # [B, A]
    uniforms, forced = self.uniforms, self.forced_length
    if uniforms is not None:
      uniforms = jnp.take_along_axis(uniforms, index, axis=1, mode='clip')
    return decode_loop.Rules(
      separators=self.separators,
      limit=self.max_new_tokens[turn],
      temperature=self.temperature,
      uniforms=uniforms,
      given_tokens=_of_turn(self.given_tokens, turn),
      given_length=_of_turn(self.given_length, turn),
      forced_length=None if forced is None else _of_turn(forced, turn),
      block_size=(
        sampling.CPU_BLOCK if transposed else sampling.ACCELERATOR_BLOCK
      ),
    )


@struct.dataclass
class Sequences:
  """Sequences so far, cached but for their newest token.

  Attributes:
    cache: None where it is kept elsewhere.
    tokens: i32 [B, T].
    turn: i32 [B, T], as in `arrays.Trajectory`.
    logprobs: f32 [B, T].
    length: i32 [B].
    finished: bool [B, K].
  """

  cache: kv_cache.KVCache | None
  tokens: jax.Array
  turn: jax.Array
  logprobs: jax.Array
  length: jax.Array
  finished: jax.Array

  @property
  def newest(self) -> jax.Array:
    """Each sequence's newest token, i32 [B]."""
    index = self.length[:, None] - 1
    return jnp.take_along_axis(self.tokens, index, axis=1, mode='clip')[:, 0]

  def begin(
    self, rules: Rules, longest: int, in_step: bool = True
  ) -> decode_loop.Attempts:
    """An attempt of every sequence, without a token yet.

    Args:
      rules: of the episode.
      longest: A, tokens of the longest possible attempt.
      in_step: whether all attempts begin together.
    """
    return decode_loop.begin(
      self.cache,
      self.newest,
      self.length - 1,
      longest,
      has_stop_texts=rules.separators.stop_table is not None,
      in_step=in_step,
    )

  def join(
    self,
    turn: jax.Array,
    done: decode_loop.Attempts,
    separators: turn_separator.TurnSeparators,
  ) -> 'Sequences':
    """The sequences with an attempt each, and the cache that it has made.

    Args:
      turn: of the attempts, i32 [] or [B], from 0.
      done: the attempts, ended.
      separators: of the episode.
    """
    batch, total = self.tokens.shape
    stopped = separators.is_stop(done.newest)
    if done.text_state is not None:
      stopped |= separators.is_stop_text(done.text_state)
    column = jnp.arange(done.tokens.shape[1])[None]
    # Index T is out of bounds, so that these writes are dropped.
    index = self.length[:, None] + column
    index = jnp.where(column < done.length[:, None], index, total)
    sequence = jnp.arange(batch)[:, None]

    def put(values, new):
      return values.at[sequence, index].set(new, mode='drop')

    return self.replace(
      cache=done.cache,
      tokens=put(self.tokens, done.tokens),
      turn=put(self.turn, jnp.reshape(turn, (-1, 1)) + 1),
      logprobs=put(self.logprobs, done.logprobs),
      length=self.length + done.length,
      finished=jnp.where(self._is_of(turn), stopped[:, None], self.finished),
    )

  def separate(
    self,
    forward: Callable[..., tuple[jax.Array, kv_cache.KVCache]],
    turn: jax.Array,
    separators: turn_separator.TurnSeparators,
  ) -> 'Sequences':
    """Feeds each sequence's newest token and the separator after its attempt.

    Args:
      forward: (tokens [B, I], positions [B, I], cache) -> hidden states, cache.
      turn: of the attempts, i32 [] or [B], from 0; none is the last.
      separators: of the episode.
    """
    closed = (self.finished & self._is_of(turn)).any(axis=1)
    if not separators.stop_text_closes_turn:
      closed = separators.is_stop(self.newest)
    given = jnp.where(
      closed[:, None],
      jnp.atleast_2d(separators.after_stop[turn]),
      jnp.atleast_2d(separators.after_cut[turn]),
    )  # [B, I]
    count = jnp.where(
      closed,
      separators.after_stop_length[turn],
      separators.after_cut_length[turn],
    )
    offset = jnp.arange(separators.longest)[None]
    inside = offset < count[:, None]
    index = self.length[:, None] + offset
    index = jnp.where(inside, index, self.tokens.shape[1])
    batch = jnp.arange(given.shape[0])[:, None]
    tokens = self.tokens.at[batch, index].set(given, mode='drop')
    # The separator's last token stays out of the cache, as the newest one does.
    block = jnp.concatenate([self.newest[:, None], given[:, :-1]], axis=1)
    positions = jnp.where(inside, self.length[:, None] - 1 + offset, -1)
    _, cache = forward(block, positions, self.cache)
    return self.replace(cache=cache, tokens=tokens, length=self.length + count)

  def _is_of(self, turn):
    """Which attempts are those of a turn, bool [1, K] or [B, K]."""
    return jnp.arange(self.finished.shape[1])[None] == jnp.reshape(
      turn, (-1, 1)
    )


def _of_turn(values, turn):
  """values[b, turn], or values[b, turn[b]], of [B, K, ...]."""
  if turn.ndim == 0:
    return values[:, turn]
  return values[jnp.arange(values.shape[0]), turn]
