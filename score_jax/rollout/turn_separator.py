"""What an episode is given between two attempts, as token ids."""

from collections.abc import Sequence

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from score_jax.models import chat


@struct.dataclass
class TurnSeparators:
  """The ids given between attempts, for each of the K - 1 turn changes.

  Attributes:
    after_stop: i32 [K - 1, I], right-padded; given after a stop token.
    after_stop_length: i32 [K - 1].
    after_cut: i32 [K - 1, I]; given after an attempt that was cut off, whose
      turn it closes first.
    after_cut_length: i32 [K - 1].
    stop_ids: i32 [stops]; the first closes an attempt of forced length.
  """

  after_stop: jax.Array
  after_stop_length: jax.Array
  after_cut: jax.Array
  after_cut_length: jax.Array
  stop_ids: jax.Array

  @property
  def longest(self) -> int:
    """I, tokens of the longest separator; at least 1."""
    return self.after_stop.shape[1]


def make_separators(
  chat_format: chat.ChatFormat, instructions: Sequence[str]
) -> TurnSeparators:
  """The separators with these K - 1 instructions between K attempts."""
  stop = [chat_format.after_stop(text) for text in instructions]
  cut = [chat_format.after_cut(text) for text in instructions]
  width = max([1, *map(len, stop + cut)])

  def table(separators):
    padded = np.zeros((len(separators), width), np.int32)
    for k, ids in enumerate(separators):
      padded[k, : len(ids)] = ids
    lengths = [len(ids) for ids in separators]
    return jnp.asarray(padded), jnp.array(lengths, jnp.int32)

  return TurnSeparators(
    *table(stop), *table(cut), jnp.array(chat_format.stop_ids, jnp.int32)
  )
