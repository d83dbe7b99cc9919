"""Sentencepiece tokenizers: a published model, or a small one made here."""

from collections.abc import Iterable, Sequence
import io
import pathlib

import sentencepiece


class Tokenizer:
  """A sentencepiece model with its special ids."""

  def __init__(self, path: str | pathlib.Path):
    """Reads a `tokenizer.model`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is no sentencepiece model, or lacks BOS or EOS.
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
    if min(self.bos_id, self.eos_id) < 0:
      raise ValueError(f'{self.path} has no BOS or no EOS piece')

  def encode(self, text: str) -> list[int]:
    """Ids of a text, without BOS or EOS."""
    return self._pieces.encode(text)

  def decode(self, ids: Sequence[int]) -> str:
    """Text of ids; control pieces leave no trace."""
    return self._pieces.decode([int(i) for i in ids])

  def piece_id(self, piece: str) -> int | None:
    """Id of a special piece such as '<end_of_turn>'; None if there is none."""
    index = self._pieces.piece_to_id(piece)
    return None if index == self._pieces.unk_id() else index


def train(texts: Iterable[str], path: str | pathlib.Path, vocab_size: int):
  """Trains a small BPE model and writes it to `path`.

  Digits are single pieces, whitespace is kept as it is, and unseen characters
  fall back to bytes, so that any text round-trips. Special ids are Gemma's:
  0 pad, 1 EOS, 2 BOS, 3 unknown.

  Args:
    texts: the corpus.
    path: of the `tokenizer.model` to write.
    vocab_size: pieces in all; the 256 bytes are among them. The corpus may
      support fewer merges, then the model is smaller.
  """
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(texts),
    model_writer=model,
    model_type='bpe',
    vocab_size=vocab_size,
    hard_vocab_limit=False,
    character_coverage=1.0,
    normalization_rule_name='identity',
    add_dummy_prefix=False,
    remove_extra_whitespaces=False,
    split_digits=True,
    byte_fallback=True,
    pad_id=0,
    eos_id=1,
    bos_id=2,
    unk_id=3,
    num_threads=1,
    minloglevel=2,
  )
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(model.getvalue())
