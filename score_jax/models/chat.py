r"""Turn separators of a chat format, as token ids.

| the attempt ended with     | turn separator before the next attempt     |
|----------------------------|--------------------------------------------|
| a stop token               | `after_stop`: the rest of the turn's end,  |
|                            | the instruction, the next turn's opening   |
| a stop text, plain style   | `after_stop`: the text ends its part of    |
|                            | the document, which goes on                |
| a stop text, gemma style   | `after_cut`: the turn lacks its token      |
| max_new_tokens (cut off)   | `after_cut`: the stop token, then the same |

The stop token belongs to the attempt, as does a stop text, up to the end of the
token that completes it: they have log-probabilities and gradients. The
separator has neither. Ids are appended and never decoded and encoded again. The
text that is graded ends before the stop token or stop text.

In Gemma's format the line break after `<end_of_turn>` belongs to the template,
so that a conversation is

    <bos><start_of_turn>user\n{message}<end_of_turn>\n
    <start_of_turn>model\n{attempt}<end_of_turn>          up to here sampled
    \n<start_of_turn>user\n{instruction}<end_of_turn>\n
    <start_of_turn>model\n{attempt}<end_of_turn>

Turn tokens are never part of a longer piece, so that a separator has the ids
that it has in the whole text. Only an attempt that begins with line breaks has
other ids there, since they form one piece with the line break before it.
"""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Literal

import numpy as np

from score_jax.models import stop_automaton, tokenization

ChatStyle = Literal['plain', 'gemma']

START_OF_TURN = tokenization.START_OF_TURN
END_OF_TURN = tokenization.END_OF_TURN


@dataclasses.dataclass(frozen=True)
class ChatFormat:
  r"""Encodes user messages around a policy's attempts.

  Attributes:
    tokenizer: of the model.
    style: 'gemma' for instruction-tuned checkpoints: turn tokens, messages
      stripped of surrounding whitespace as by the published template. 'plain'
      for base models, whose turn tokens are untrained: lines, attempts end with
      EOS.
    stop_texts: texts that end an attempt, too, such as a base model's mark at
      the end of each part of a few-shot prompt; see `types.Task.stop_texts`.

  Example:
    >>> chat_format = sj.ChatFormat(tokenizer)
    >>> tokenizer.decode(chat_format.prompt('12+34='))
    '12+34=\n'
  """

  tokenizer: tokenization.Tokenizer
  style: ChatStyle = 'plain'
  stop_texts: tuple[str, ...] = ()

  def __post_init__(self):
    if '' in self.stop_texts:
      raise ValueError('a stop text is empty, and would end every attempt')
    if self.style == 'gemma':
      for piece in (START_OF_TURN, END_OF_TURN):
        if self.tokenizer.piece_id(piece) is None:
          raise ValueError(
            f'{self.tokenizer.path} has no piece {piece!r}, which the Gemma '
            "chat format needs; use the 'plain' style or the tokenizer of an "
            'instruction-tuned Gemma'
          )

  @property
  def stop_ids(self) -> tuple[int, ...]:
    """Ids that end an attempt; `after_cut` begins with the first."""
    if self.style == 'gemma':
      return (self.tokenizer.piece_id(END_OF_TURN), self.tokenizer.eos_id)
    return (self.tokenizer.eos_id,)

  @property
  def stop_text_closes_turn(self) -> bool:
    """Whether `after_stop` follows a stop text; see the table above."""
    return self.style == 'plain'

  @functools.cached_property
  def stop_table(self) -> np.ndarray | None:
    """Automaton of the stop texts, [S, V]; None where there are none.

    See `stop_automaton.transition_table`.
    """
    if not self.stop_texts:
      return None
    return stop_automaton.transition_table(
      self._stop_bytes, self.tokenizer.piece_bytes
    )

  @property
  def _stop_bytes(self) -> tuple[bytes, ...]:
    return tuple(text.encode() for text in self.stop_texts)

  def prompt(self, message: str) -> list[int]:
    """Encodes BOS, the user's first message and the model turn's opening."""
    return [
      self.tokenizer.bos_id,
      *self.tokenizer.encode(self._user_turn(message)),
    ]

  def after_stop(self, message: str) -> list[int]:
    """Encodes the separator after an attempt that ended with a stop token."""
    return self.tokenizer.encode('\n' + self._user_turn(message))

  def after_cut(self, message: str) -> list[int]:
    """Encodes the separator after an attempt that was cut off."""
    return [self.stop_ids[0], *self.after_stop(message)]

  def _user_turn(self, message: str) -> str:
    if self.style == 'plain':
      return f'{message}\n'
    return (
      f'{START_OF_TURN}user\n{message.strip()}{END_OF_TURN}\n'
      f'{START_OF_TURN}model\n'
    )

  def attempt_ids(self, text: str) -> list[int]:
    """Encodes an off-policy attempt's text, as if it had been sampled.

    Up to the token that completes its first stop text; where the text has none,
    with a stop token.
    """
    ids = self.tokenizer.encode(text)
    match = self._find_stop_text(ids)
    return ids[: match.end] if match else [*ids, self.stop_ids[0]]

  def attempt_text(self, ids) -> str:
    """Decodes an attempt's ids, without its stop token or stop text."""
    ids = list(ids)
    if ids and ids[-1] in self.stop_ids:
      ids = ids[:-1]
    match = self._find_stop_text(ids)
    if match is None:
      return self.tokenizer.decode(ids)
    # From its end, since decoding may have dropped a space at its beginning.
    text = self.tokenizer.decode(ids[: match.before]).encode()
    return text[: max(0, len(text) - match.overlap)].decode()

  def _find_stop_text(self, ids: Sequence[int]) -> stop_automaton.Match | None:
    if not self.stop_texts:
      return None
    pieces = [self.tokenizer.piece_bytes[index] for index in ids]
    return stop_automaton.find(pieces, self._stop_bytes)
