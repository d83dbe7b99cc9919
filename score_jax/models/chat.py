"""Where turns begin and end, as token ids.

| the attempt ended with | what is given before the next attempt |
|---|---|
| a stop token           | `after_stop`: the turn's closing text, the instruction, the next opening |
| its limit (cut off)    | `after_cut`: the stop token, then the same |

The stop token belongs to the attempt: it has a log-probability and a gradient.
What follows it is given. Ids are never decoded and encoded again: a row only
ever grows.
"""

import dataclasses
from typing import Literal

from score_jax.models import tokenizer as tokenizer_lib

ChatStyle = Literal['plain', 'gemma']

START_OF_TURN = '<start_of_turn>'
END_OF_TURN = '<end_of_turn>'


@dataclasses.dataclass(frozen=True)
class ChatFormat:
  """Renders user messages around a policy's attempts.

  Attributes:
    tokenizer: of the model.
    style: 'gemma' for instruction-tuned checkpoints (turn tokens), 'plain' for
      base models, whose turn tokens are untrained: lines, ended by EOS.
  """

  tokenizer: tokenizer_lib.Tokenizer
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
    """Ids before the first attempt: BOS, the first user message, the opening."""
    return [self.tokenizer.bos_id, *self._user_message(message, first=True)]

  def after_stop(self, message: str) -> list[int]:
    """Ids between an attempt that ended with a stop token and the next."""
    return self._user_message(message, first=False)

  def after_cut(self, message: str) -> list[int]:
    """Ids between an attempt that was cut off and the next."""
    return [self.stop_ids[0], *self.after_stop(message)]

  def _user_message(self, message, first):
    if self.style == 'plain':
      opening = '' if first else '\n'
      return self.tokenizer.encode(f'{opening}{message}\n')
    opening = '' if first else '\n'
    return self.tokenizer.encode(
      f'{opening}{START_OF_TURN}user\n{message}{END_OF_TURN}\n'
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
