"""Fewer rows than sequences: a row that is done takes the next one that waits.

Each row of the cache decodes a sequence by itself: rows are at different
attempts and at different tokens of them, whatever the others do. The decode
loop goes on until a sixteenth of the rows waits for the same thing, since what
they wait for is done for that many at once:

- Rows whose attempt has another one after it are fed the separator, as a block.
- Rows whose episode is complete take the next sequences: the keys of their
  prompts, which were computed once a problem, are copied.

Once no sequence waits, rows fall idle. With compactions, half of the rows go on
alone when the other half is idle.

What a sequence draws depends on its key and on its positions alone, so that the
episodes are those of all sequences at once. Rows share no slots: a block is
written by a scatter for each layer, see `kv_cache`.
"""

from collections.abc import Callable
import dataclasses
import functools

from flax import struct
import jax
import jax.numpy as jnp

from score_jax.models import kv_cache
from score_jax.rollout import batch_rows, decode_loop, sequence_state

# One of so many rows is served at a time: fewer would make blocks of few
# tokens, more would be idle for longer. With attempts of n tokens on average,
# passes for blocks and passes in which rows are idle add up to the least at
# about the square root of 2 n.
_SERVED = 16


@struct.dataclass
class _Rows:
  """What R rows decode."""

  attempts: decode_loop.Attempts
  sequence: jax.Array  # i32 [R]; B: the row is idle
  turn: jax.Array  # i32 [R]


@struct.dataclass
class _Carry:
  """Of the loops: rows, and all B sequences without attempts in progress."""

  rows: _Rows
  sequences: sequence_state.Sequences
  next: jax.Array  # i32 []; the first sequence that waits

  @property
  def taken(self) -> jax.Array:
    """Which rows are not idle, bool [R]."""
    return self.rows.sequence < self.sequences.length.shape[0]


def run(
  forward: Callable[..., tuple[jax.Array, kv_cache.KVCache]],
  unembed: Callable[[jax.Array], jax.Array],
  rules: sequence_state.Rules,
  started: sequence_state.Sequences,
  cache_of: Callable[[jax.Array], kv_cache.KVCache],
  *,
  rows: int,
  longest: int,
  compactions: int,
) -> sequence_state.Sequences:
  """Makes all attempts of all sequences.

  Args:
    forward: (tokens [B, S], positions [B, S], cache) -> hidden states, cache.
    unembed: hidden states [B, D] -> logits f32 [B, V].
    rules: of the B sequences.
    started: the sequences with their prompts, without a cache.
    cache_of: indices of sequences, i32 [any] -> a cache that holds these
      sequences' prompts, not in lock-step.
    rows: R, less than B.
    longest: A, tokens of the longest possible attempt.
    compactions: most of them.

  Returns:
    The sequences, without a cache.
  """
  turns = started.finished.shape[1]
  episode = _Episode(forward, unembed, rules, longest, turns - 1, cache_of)
  begun = episode.begin(started, jnp.arange(rows))
  carry = _Carry(rows=begun, sequences=started, next=jnp.int32(rows))
  return episode.run(carry, compactions).sequences


@dataclasses.dataclass(frozen=True)
class _Episode:
  """What stays the same, see `run`, and what is done with it."""

  forward: Callable
  unembed: Callable
  rules: sequence_state.Rules
  longest: int
  last_turn: int
  cache_of: Callable

  def run(self, carry, compactions):
    """Goes on until no row is taken."""
    count, batch = carry.rows.turn.shape[0], carry.sequences.length.shape[0]
    half = count // 2 if compactions else 0
    carry = jax.lax.while_loop(
      lambda carry: (carry.next < batch) | (carry.taken.sum() > half),
      self._decode_and_serve,
      carry,
    )
    if not half:
      return carry
    # Shapes cannot shrink inside a loop, hence a loop for each number of rows.
    index = jnp.argsort(~carry.taken)[:half]  # all taken ones first
    taken = batch_rows.pick(carry.rows, index)
    return self.run(carry.replace(rows=taken), compactions - 1)

  def begin(self, state, index):
    """Rows that begin the sequences at `index`; idle from B on."""
    batch = state.length.shape[0]
    known = jnp.minimum(index, batch - 1)
    state = batch_rows.pick(state, known).replace(cache=self.cache_of(known))
    attempts = state.begin(self.rules, self.longest, in_step=False)
    return _Rows(
      attempts=attempts.replace(active=index < batch),
      sequence=jnp.minimum(index, batch),
      turn=jnp.zeros_like(index),
    )

  def _decode_and_serve(self, carry):
    """Decodes until enough rows wait for the same, and does it for them."""
    rows, taken = carry.rows, carry.taken
    count = rows.turn.shape[0]
    served = max(1, count // _SERVED)
    enough = jnp.maximum(1, taken.sum() * served // count)
    is_last = rows.turn == self.last_turn

    def waiting(attempts):
      ended = taken & ~attempts.active
      return ended & ~is_last, ended & is_last

    def goes_on(attempts):
      between, complete = waiting(attempts)
      most = jnp.maximum(between.sum(), complete.sum())
      return attempts.active.any() & (most < enough)

    rules = decode_loop.of_sequences(self.rules, rows.sequence).of_attempts(
      rows.turn,
      carry.sequences.length[rows.sequence],
      self.longest,
      rows.attempts.cache.layers[0].transposed,
    )
    attempts = jax.lax.while_loop(
      goes_on,
      lambda attempts: decode_loop.step(
        self.forward, self.unembed, rules, attempts
      ),
      rows.attempts,
    )
    carry = carry.replace(rows=rows.replace(attempts=attempts))
    enough = jnp.where(attempts.active.any(), enough, 1)
    between, complete = waiting(attempts)
    if self.last_turn:
      separate = functools.partial(self._separate, between, served)
      carry = batch_rows.if_then(between.sum() >= enough, separate, carry)
    replace = functools.partial(self._replace, complete, served)
    return batch_rows.if_then(complete.sum() >= enough, replace, carry)

  def _separate(self, between, served, carry):
    """Feeds rows between two attempts the separator; they begin the next."""
    index, rows, state = self._join(between, served, carry)
    state = state.separate(self.forward, rows.turn, self.rules.separators)
    attempts = state.begin(self.rules, self.longest, in_step=False)
    begun = rows.replace(attempts=attempts, turn=rows.turn + 1)
    return _put(carry, index, begun, rows.sequence, state)

  def _replace(self, complete, served, carry):
    """Puts sequences that wait in the place of complete ones."""
    index, rows, state = self._join(complete, served, carry)
    begun = self.begin(carry.sequences, carry.next + jnp.arange(served))
    carry = _put(carry, index, begun, rows.sequence, state)
    count = jnp.minimum(complete.sum(), served)
    return carry.replace(next=carry.next + count)

  def _join(self, chosen, served, carry):
    """Joins the attempts of chosen rows, as many as are served.

    Returns:
      index of the rows, i32 [served]; the rows; their sequences. Where fewer
      are chosen, others fill up, whose index and sequence are out of bounds.
    """
    index = jnp.argsort(~chosen)[:served]  # all chosen ones first
    rows = batch_rows.pick(carry.rows, index)
    state = batch_rows.pick(carry.sequences, rows.sequence)
    state = state.join(rows.turn, rows.attempts, self.rules.separators)
    out = jnp.arange(served)
    sequence = jnp.where(
      chosen[index], rows.sequence, carry.sequences.length.shape[0] + out
    )
    index = jnp.where(chosen[index], index, chosen.shape[0] + out)
    return index, rows.replace(sequence=sequence), state


def _put(carry, index, rows, sequence, state):
  """The carry with these rows and sequences in their places."""
  return carry.replace(
    rows=batch_rows.put(carry.rows, index, rows),
    sequences=batch_rows.put(
      carry.sequences, sequence, state.replace(cache=None)
    ),
  )
