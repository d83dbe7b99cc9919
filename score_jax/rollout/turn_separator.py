"""Where attempts end, and what an episode is given between two, as ids."""

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
    after_stop: i32 [K - 1, I], right-padded; given after an attempt that closed
      its turn.
    after_stop_length: i32 [K - 1].
    after_cut: i32 [K - 1, I]; given after an attempt that was cut off, whose
      turn it closes first.
    after_cut_length: i32 [K - 1].
    stop_ids: i32 [stops]; the first closes an attempt of forced length.
    stop_table: unsigned [S, V], see `stop_automaton.transition_table`; None:
      there are no stop texts.
    stop_text_closes_turn: False: `after_cut` follows a stop text.
  """

  after_stop: jax.Array
  after_stop_length: jax.Array
  after_cut: jax.Array
  after_cut_length: jax.Array
  stop_ids: jax.Array
  stop_table: jax.Array | None = None
  stop_text_closes_turn: bool = struct.field(default=True, pytree_node=False)

  @property
  def longest(self) -> int:
    """I, tokens of the longest separator; at least 1."""
    return self.after_stop.shape[1]

  def is_stop(self, tokens: jax.Array) -> jax.Array:
    """Which of the tokens [B] are stop tokens."""
    return (tokens[:, None] == self.stop_ids[None]).any(axis=-1)

  def read(self, text_state: jax.Array, tokens: jax.Array) -> jax.Array:
    """The stop texts' automaton after the tokens [B], i32 [B]."""
    return self.stop_table[text_state, tokens].astype(jnp.int32)

  def is_stop_text(self, text_state: jax.Array) -> jax.Array:
    """In which states [B] of the automaton a stop text is complete."""
    return text_state == self.stop_table.shape[0] - 1


def sequence_length(
  prompt: int, max_new_tokens: Sequence[int], separator: int
) -> int:
  """T: tokens of the longest possible episode."""
  return prompt + sum(max_new_tokens) + (len(max_new_tokens) - 1) * separator


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
    *table(stop),
    *table(cut),
    jnp.array(chat_format.stop_ids, jnp.int32),
    **_stop_texts(chat_format),
  )


def _stop_texts(chat_format):
  if chat_format.stop_table is None:
    return {}
  return {
    'stop_table': jnp.asarray(chat_format.stop_table),
    'stop_text_closes_turn': chat_format.stop_text_closes_turn,
  }
