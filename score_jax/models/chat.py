r"""Turn separators of a chat format, as token ids.

| the attempt ended with     | turn separator before the next attempt     |
|----------------------------|--------------------------------------------|
| a stop token               | `after_stop`: the rest of the turn's end,  |
|                            | the instruction, the next turn's opening   |
| max_new_tokens (cut off)   | `after_cut`: the stop token, then the same |

The stop token belongs to the attempt: it has a log-probability and a gradient.
The separator has neither. Ids are appended and never decoded and encoded again.

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

import dataclasses
from typing import Literal

from score_jax.models import tokenization

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

  Example:
    >>> chat_format = sj.ChatFormat(tokenizer)
    >>> tokenizer.decode(chat_format.prompt('12+34='))
    '12+34=\n'
  """

  tokenizer: tokenization.Tokenizer
  style: ChatStyle = 'plain'

  def __post_init__(self):
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
    """Encodes an off-policy attempt's text, with a stop token."""
    return [*self.tokenizer.encode(text), self.stop_ids[0]]

  def attempt_text(self, ids) -> str:
    """Decodes an attempt's ids, without its stop token."""
    ids = list(ids)
    if ids and ids[-1] in self.stop_ids:
      ids = ids[:-1]
    return self.tokenizer.decode(ids)
