"""What an episode is given: the text between attempts, and whole attempts."""

from collections.abc import Sequence

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from score_jax.models import chat


@struct.dataclass
class TurnSeparators:
  """The given ids between attempts, of each of the K - 1 turn changes.

  Attributes:
    after_stop: i32 [K - 1, I], right-padded; given after a stop token.
    after_stop_length: i32 [K - 1].
    after_cut: i32 [K - 1, I]; given after an attempt that was cut off.
    after_cut_length: i32 [K - 1].
    stop_ids: i32 [stops]; the first closes a forced attempt.
  """

  after_stop: jax.Array
  after_stop_length: jax.Array
  after_cut: jax.Array
  after_cut_length: jax.Array
  stop_ids: jax.Array

  @property
  def longest(self) -> int:
    """I, the longest given block."""
    return self.after_stop.shape[1]


def make_separators(
  chat_format: chat.ChatFormat, instructions: Sequence[str]
) -> TurnSeparators:
  """The separators of the K - 1 instructions between K attempts."""
  stop = [chat_format.after_stop(text) for text in instructions]
  cut = [chat_format.after_cut(text) for text in instructions]
  width = max([1, *map(len, stop + cut)])

  def table(rows):
    padded = np.zeros((len(rows), width), np.int32)
    for i, row in enumerate(rows):
      padded[i, : len(row)] = row
    return jnp.asarray(padded), jnp.array([len(r) for r in rows], jnp.int32)

  return TurnSeparators(
    *table(stop), *table(cut), jnp.array(chat_format.stop_ids, jnp.int32)
  )


@struct.dataclass
class GivenAttempts:
  """Attempts that are supplied instead of sampled.

  Attributes:
    tokens: i32 [B, K, A]; stop tokens included.
    length: i32 [B, K]; 0: the attempt is sampled.
  """

  tokens: jax.Array
  length: jax.Array


def no_given_attempts(batch_size: int, turns: int) -> GivenAttempts:
  """Every attempt is sampled."""
  return GivenAttempts(
    jnp.zeros((batch_size, turns, 1), jnp.int32),
    jnp.zeros((batch_size, turns), jnp.int32),
  )
