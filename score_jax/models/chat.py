r"""Where turns begin and end, as token ids.

| the attempt ended with | what is given before the next attempt      |
|------------------------|--------------------------------------------|
| a stop token           | `after_stop`: the rest of the turn's end,  |
|                        | the instruction, the next turn's opening   |
| its limit (cut off)    | `after_cut`: the stop token, then the same |

The stop token belongs to the attempt: it has a log-probability and a gradient.
What follows it is given. Ids are never decoded and encoded again: a row only
ever grows.

In Gemma's format the line break after `<end_of_turn>` is the template's, so a
conversation reads

    <bos><start_of_turn>user\n{message}<end_of_turn>\n
    <start_of_turn>model\n{attempt}<end_of_turn>          up to here sampled
    \n<start_of_turn>user\n{instruction}<end_of_turn>\n
    <start_of_turn>model\n{attempt}<end_of_turn>

Turn tokens are never part of a longer piece, so that what is given has the ids
that it would have in the whole text. Only an attempt that begins with line
breaks could be encoded otherwise, together with the one before it: that is
what append-only ids avoid.
"""

import dataclasses
from typing import Literal

from score_jax.models import tokenization

ChatStyle = Literal['plain', 'gemma']

START_OF_TURN = tokenization.START_OF_TURN
END_OF_TURN = tokenization.END_OF_TURN


@dataclasses.dataclass(frozen=True)
class ChatFormat:
  """Renders user messages around a policy's attempts.

  Attributes:
    tokenizer: of the model.
    style: 'gemma' for instruction-tuned checkpoints (turn tokens; messages are
      stripped of surrounding whitespace, as the published template does),
      'plain' for base models, whose turn tokens are untrained: lines, ended
      by EOS.
  """

  tokenizer: tokenization.Tokenizer
  style: ChatStyle = 'plain'

  def __post_init__(self):
    if self.style == 'gemma':
      for piece in (START_OF_TURN, END_OF_TURN):
        if self.tokenizer.piece_id(piece) is None:
          raise ValueError(
            f'{self.tokenizer.path} has no piece {piece!r}, which the Gemma '
            'chat format needs; use the plain format (--chat-style=plain) or '
            'the tokenizer of an instruction-tuned Gemma'
          )

  @property
  def stop_ids(self) -> tuple[int, ...]:
    """Ids that end an attempt; the first closes a turn that was cut off."""
    if self.style == 'gemma':
      return (self.tokenizer.piece_id(END_OF_TURN), self.tokenizer.eos_id)
    return (self.tokenizer.eos_id,)

  def prompt(self, message: str) -> list[int]:
    """Ids before the first attempt: BOS, the user's message, the opening."""
    return [
      self.tokenizer.bos_id,
      *self.tokenizer.encode(self._user_turn(message)),
    ]

  def after_stop(self, message: str) -> list[int]:
    """Ids between an attempt that ended with a stop token and the next."""
    return self.tokenizer.encode('\n' + self._user_turn(message))

  def after_cut(self, message: str) -> list[int]:
    """Ids between an attempt that was cut off and the next."""
    return [self.stop_ids[0], *self.after_stop(message)]

  def _user_turn(self, message: str) -> str:
    if self.style == 'plain':
      return f'{message}\n'
    return (
      f'{START_OF_TURN}user\n{message.strip()}{END_OF_TURN}\n'
      f'{START_OF_TURN}model\n'
    )

  def attempt_ids(self, text: str) -> list[int]:
    """Ids of an attempt that somebody else wrote, with its stop token."""
    return [*self.tokenizer.encode(text), self.stop_ids[0]]

  def attempt_text(self, ids) -> str:
    """Text of an attempt's ids, without its stop token."""
    ids = list(ids)
    if ids and ids[-1] in self.stop_ids:
      ids = ids[:-1]
    return self.tokenizer.decode(ids)
