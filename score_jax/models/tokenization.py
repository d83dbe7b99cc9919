"""Sentencepiece tokenizers: published ones, and small ones trained here."""

from collections.abc import Iterable, Sequence
import dataclasses
import functools
import io
import pathlib

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

START_OF_TURN = '<start_of_turn>'
END_OF_TURN = '<end_of_turn>'
# What pieces have for a space.
_SPACE = '\u2581'


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
  """Special ids that a checkpoint was trained with.

  Attributes:
    vocab_size: pieces in all.
    start_of_turn: id of '<start_of_turn>'.
    end_of_turn: id of '<end_of_turn>'.
    pad: id of '<pad>'.
    eos: id of '<eos>'.
    bos: id of '<bos>'.
    unk: id of '<unk>'.
  """

  vocab_size: int
  start_of_turn: int
  end_of_turn: int
  pad: int = 0
  eos: int = 1
  bos: int = 2
  unk: int = 3


class Tokenizer:
  """A sentencepiece model with its special ids.

  Example:
    >>> tokenizer = sj.Tokenizer('tokenizer.model')
    >>> tokenizer.decode(tokenizer.encode('12+34='))
    '12+34='
  """

  def __init__(self, path: str | pathlib.Path):
    """Reads a `tokenizer.model`.

    Raises:
      FileNotFoundError: the file does not exist.
      ValueError: the file is not a sentencepiece model, or lacks BOS or EOS.
    """
    self.path = pathlib.Path(path)
    if not self.path.is_file():
      raise FileNotFoundError(f'no tokenizer model at {self.path}')
    try:
      self._pieces = sentencepiece.SentencePieceProcessor(
        model_proto=self.path.read_bytes()
      )
    except RuntimeError as error:
      raise ValueError(
        f'{self.path} is not a sentencepiece model: {error}'
      ) from error
    self.vocab_size = self._pieces.vocab_size()
    self.pad_id = max(self._pieces.pad_id(), 0)
    self.bos_id = self._pieces.bos_id()
    self.eos_id = self._pieces.eos_id()
    self.unk_id = self._pieces.unk_id()
    if min(self.bos_id, self.eos_id) < 0:
      raise ValueError(f'{self.path} has no BOS or no EOS piece')

  def encode(self, text: str) -> list[int]:
    """Encodes a text, without BOS or EOS."""
    return self._pieces.encode(text)

  def decode(self, ids: Sequence[int]) -> str:
    """Decodes ids; control pieces such as BOS decode to nothing."""
    return self._pieces.decode([int(i) for i in ids])

  @functools.cached_property
  def piece_bytes(self) -> tuple[bytes, ...]:
    """What each of the V pieces adds to a text in UTF-8.

    Joined they are the text that `decode` gives, but for a space that some
    tokenizers drop at the start, and for bytes that are no UTF-8, which it
    replaces.
    """
    return tuple(map(self._bytes_of, range(self.vocab_size)))

  def _bytes_of(self, index: int) -> bytes:
    piece = self._pieces.id_to_piece(index)
    if self._pieces.is_byte(index):  # '<0x0A>'
      return bytes.fromhex(piece[3:5])
    if self._pieces.is_control(index) or self._pieces.is_unknown(index):
      return self.decode([index]).encode()
    return piece.replace(_SPACE, ' ').encode()

  def piece_id(self, piece: str) -> int | None:
    """Returns the id of a piece such as '<end_of_turn>', or None."""
    index = self._pieces.piece_to_id(piece)
    return None if index == self.unk_id else index

  def special_pieces(self) -> dict[int, tuple[str, bool]]:
    """Returns (piece, whether it is control) of each special piece by its id.

    Special pieces are never part of another. Control pieces are not text: the
    unknown piece, BOS, EOS, padding and the turn tokens. The others are text
    that is never split, such as line breaks and tags.
    """
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(self._pieces.serialized_model_proto())
    control = (model.SentencePiece.CONTROL, model.SentencePiece.UNKNOWN)
    found = {}
    for index, piece in enumerate(model.pieces):
      is_turn = piece.piece in (START_OF_TURN, END_OF_TURN)
      if piece.type in control:
        found[index] = piece.piece, True
      elif piece.type == model.SentencePiece.USER_DEFINED:
        found[index] = piece.piece, is_turn
    return found

  def require(self, expected: SpecialTokens) -> None:
    """Rejects a checkpoint that was trained with another tokenizer.

    Raises:
      ValueError: the vocabulary's size or a special id differs; the message
        lists every difference.
    """
    found = {
      'vocab_size': self.vocab_size,
      'start_of_turn': self.piece_id(START_OF_TURN),
      'end_of_turn': self.piece_id(END_OF_TURN),
      'pad': self._pieces.pad_id(),
      'eos': self.eos_id,
      'bos': self.bos_id,
      'unk': self.unk_id,
    }
    differences = [
      f'{name} is {found[name]}, the checkpoint has {value}'
      for name, value in dataclasses.asdict(expected).items()
      if found[name] != value
    ]
    if differences:
      raise ValueError(
        f'{self.path} is not the tokenizer of this checkpoint: '
        f'{"; ".join(differences)}. Pass the tokenizer.model that was '
        'published beside the checkpoint'
      )


def gemma_pieces(special: SpecialTokens) -> list[str]:
  """Returns the pieces to reserve, so that the turn tokens get Gemma's ids.

  Reserved pieces are numbered from 4 in order. As in Gemma, runs of 1 to 31
  line breaks follow the turn tokens.
  """
  first = ['<mask>', '<2mass>', '[@BOS@]']
  unused = [f'<unused{i}>' for i in range(special.start_of_turn - 7)]
  breaks = ['\n' * count for count in range(1, 32)]
  return [*first, *unused, START_OF_TURN, END_OF_TURN, *breaks]


def train(
  texts: Iterable[str],
  path: str | pathlib.Path,
  vocab_size: int,
  reserved: Sequence[str] = (),
) -> None:
  """Trains a small BPE model and writes it to `path`.

  Digits are single pieces, whitespace is kept, and unseen characters fall back
  to bytes, so that any text round-trips. Special ids are Gemma's: 0 pad, 1 EOS,
  2 BOS, 3 unknown.

  Args:
    texts: the corpus.
    path: of the `tokenizer.model` to write.
    vocab_size: number of pieces, the 256 bytes included. Fewer if the corpus
      does not support as many merges; more if bytes, reserved pieces and the
      characters of the corpus exceed it.
    reserved: pieces that are never split, with ids from 4 on; see
      `gemma_pieces`.

  Example:
    >>> sj.train_tokenizer(['12+34=', '46'], 'sums.model', vocab_size=300)
    >>> tokenizer = sj.Tokenizer('sums.model')
  """
  texts = list(texts)
  characters = set().union(*texts)
  least = 4 + 256 + len(reserved) + len(characters)
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(texts),
    model_writer=model,
    model_type='bpe',
    vocab_size=max(vocab_size, least),
    hard_vocab_limit=False,
    character_coverage=1.0,
    normalization_rule_name='identity',
    add_dummy_prefix=False,
    remove_extra_whitespaces=False,
    split_digits=True,
    byte_fallback=True,
    user_defined_symbols=list(reserved),
    pad_id=0,
    eos_id=1,
    bos_id=2,
    unk_id=3,
    pad_piece='<pad>',
    eos_piece='<eos>',
    bos_piece='<bos>',
    unk_piece='<unk>',
    num_threads=1,
    minloglevel=2,
  )
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(model.getvalue())
