"""Sentencepiece models: round trips, special ids, refusals."""

import dataclasses

import pytest

from score_jax.models import gemma, tokenization
from tests.support import exports

GENERATIONS = {
  'gemma-1-2': gemma.GEMMA_1_2_TOKENS,
  'gemma-3': gemma.GEMMA_3_TOKENS,
}


@pytest.mark.parametrize('special', GENERATIONS.values(), ids=GENERATIONS)
def test_special_ids(special):
  tokenizer = exports.tokenizer(special)
  start, end = special.start_of_turn, special.end_of_turn
  assert tokenizer.piece_id('<start_of_turn>') == start
  assert tokenizer.piece_id('<end_of_turn>') == end
  ids = (tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id)
  assert ids == (0, 1, 2)
  # Turn tokens in running text, and next to each other.
  encoded = tokenizer.encode('<start_of_turn>19<end_of_turn><end_of_turn>')
  assert encoded[0] == start
  assert encoded[-2:] == [end, end]
  assert tokenizer.decode(encoded[1:-2]) == '19'
  # A line break is one piece, several are one longer piece.
  assert tokenizer.encode('\n') == [end + 1]
  assert tokenizer.encode('\n\n\n') == [end + 3]


@pytest.mark.parametrize(
  'text',
  [
    'What is 12 + 7?',
    '  two spaces, and two behind  ',
    'line\n\nbreaks\n',
    'tabs\tand é, 数, \U0001f600',
    '',
  ],
)
@pytest.mark.parametrize('special', [gemma.GEMMA_3_TOKENS, None])
def test_any_text_survives(text, special):
  tokenizer = exports.tokenizer(special)
  assert tokenizer.decode(tokenizer.encode(text)) == text


def test_require():
  tokenizer = exports.tokenizer(gemma.GEMMA_3_TOKENS)
  own = dataclasses.replace(
    gemma.GEMMA_3_TOKENS, vocab_size=tokenizer.vocab_size
  )
  tokenizer.require(own)
  # A tokenizer of Gemma 3 for a checkpoint of Gemma 2: all three differ, and
  # the message says so.
  with pytest.raises(ValueError, match='not the tokenizer') as error:
    tokenizer.require(gemma.GEMMA_1_2_TOKENS)
  for line in (
    f'vocab_size is {tokenizer.vocab_size}, the checkpoint has 256000',
    'start_of_turn is 105, the checkpoint has 106',
    'end_of_turn is 106, the checkpoint has 107',
    str(tokenizer.path),
  ):
    assert line in str(error.value)
  assert 'bos is' not in str(error.value)


def test_files_that_are_no_tokenizer(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'tokenizer\.model'):
    tokenization.Tokenizer(tmp_path / 'tokenizer.model')
  broken = tmp_path / 'broken.model'
  broken.write_text('{"json": true}')
  with pytest.raises(ValueError, match=r'broken\.model'):
    tokenization.Tokenizer(broken)


def test_special_pieces():
  tokenizer = exports.tokenizer(gemma.GEMMA_3_TOKENS)
  pieces = tokenizer.special_pieces()
  assert pieces[0] == ('<pad>', True)
  assert pieces[3] == ('<unk>', True)
  assert pieces[4] == ('<mask>', False)
  assert pieces[106] == ('<end_of_turn>', True)
  assert pieces[108] == ('\n\n', False)
  # Neither bytes nor what was learned.
  assert len(pieces) == 4 + len(tokenization.gemma_pieces(gemma.GEMMA_3_TOKENS))
