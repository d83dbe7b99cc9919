"""Stop texts in random pieces: automaton and host against slow searches."""

import io
import itertools

import numpy as np
import pytest
import sentencepiece

from score_jax.models import chat, stop_automaton, tokenization


def test_a_table_by_hand():
  pieces = [b'', b'a', b'b', b'aa', b'ab', b'abab', b'baabb']
  table = stop_automaton.transition_table([b'aab'], pieces)
  # States: nothing, 'a', 'aa', complete.
  assert table.tolist() == [
    [0, 1, 0, 2, 0, 0, 3],
    [1, 2, 0, 2, 3, 3, 3],
    [2, 2, 3, 2, 3, 3, 3],
    [3, 3, 3, 3, 3, 3, 3],
  ]
  assert table.dtype == np.uint8


def test_many_states_get_a_wider_type():
  # One state for nothing, 16 for a letter, 16 * 16 for two, and the last.
  pairs = itertools.product(b'abcdefghijklmnop', repeat=2)
  texts = [bytes(pair) + b'!' for pair in pairs]
  table = stop_automaton.transition_table(texts, [b'pp', b'!', b'?p'])
  assert table.dtype == np.uint16
  assert len(table) == 1 + 16 + 16 * 16 + 1
  state, _, letter = table[0]
  assert table[state].tolist() == [state, 273, letter]
  assert letter < state < 273


@pytest.mark.parametrize(
  'texts', [('aab',), ('aba', 'bb'), ('b', 'ab', 'aaab'), ('abab', 'bab')]
)
def test_random_pieces(texts):
  """Overlapping texts, one inside another, in pieces of 0 to 4 letters."""
  rng = np.random.default_rng(0)
  texts = [text.encode() for text in texts]
  sizes = (0, 1, 1, 2, 3, 4)
  pieces = [bytes(rng.choice([97, 98], size).tolist()) for size in sizes]
  table = stop_automaton.transition_table(texts, pieces)
  completed = []
  for _ in range(200):
    ids = rng.integers(len(pieces), size=8)
    expected = _completing(
      lambda count, ids=ids: b''.join(pieces[i] for i in ids[:count]),
      texts,
      len(ids),
    )
    assert _read(table, ids) == expected
    match = stop_automaton.find([pieces[i] for i in ids], texts)
    assert (match and match.end) == expected
    completed.append(expected)
  assert len(set(completed)) > 2


def _completing(decode, texts, longest):
  """The least number of ids whose text has a stop text; None: no number."""
  for count in range(1, longest + 1):
    if any(text in decode(count) for text in texts):
      return count
  return None


def _read(table, ids):
  """The same number, by the table."""
  state = 0
  for count, index in enumerate(ids, start=1):
    state = table[state, index]
    if state == len(table) - 1:
      return count
  return None


@pytest.mark.parametrize(
  ('pieces', 'texts', 'match'),
  [
    # Begins with the attempt; in one piece; the rest of which is cut off.
    ([b'[DONE]\n'], [b'[DONE]'], (0, 0, 1)),
    # Begins inside the first piece, 2 bytes before its end.
    ([b'x[D', b'ON', b'E]\n', b'y'], [b'[DONE]'], (1, 2, 3)),
    # The first to be completed, though another one begins before it.
    ([b'abcd', b'e'], [b'bcde', b'cd'], (1, 2, 1)),
    # Of two that one byte completes, the longer.
    ([b'ab', b'cd'], [b'd', b'bcd'], (1, 1, 2)),
    # A piece without bytes does not interrupt it.
    ([b'x', b'', b'a', b'', b'b'], [b'ab'], (1, 0, 5)),
    ([b'a', b'c', b'b'], [b'ab'], None),
    ([], [b'ab'], None),
  ],
)
def test_where_a_stop_text_stands(pieces, texts, match):
  assert stop_automaton.find(pieces, texts) == match


_CORPUS = [
  'A: 12\n\nQ: 3',
  'x = 1\n[DONE]\n',
  '[DONE]ab',
  'aab aab',
  ' é数é数 ',
]
_TEXTS = [
  ('[DONE]',),
  ('\n\nQ:', '\nA'),
  ('aab', 'ba'),
  ('é数', '数'),
  (' a', '  '),
  # Shown by pieces that a model is not meant to write.
  ('<start_of_turn>', '⁇'),
]


@pytest.fixture(scope='module', params=[False, True], ids=['gemma', 'llama'])
def tokenizer(request, tmp_path_factory):
  """As in Gemma, or as in Llama, whose decoder drops a space at the start."""
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(_CORPUS * 9),
    model_writer=model,
    model_type='bpe',
    vocab_size=310,
    hard_vocab_limit=False,
    character_coverage=1.0,
    normalization_rule_name='identity',
    add_dummy_prefix=request.param,
    remove_extra_whitespaces=False,
    split_by_whitespace=False,
    split_by_unicode_script=False,
    byte_fallback=True,
    user_defined_symbols=[tokenization.START_OF_TURN, '\n', '\n\n'],
    minloglevel=2,
  )
  path = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.model'
  path.write_bytes(model.getvalue())
  return tokenization.Tokenizer(path)


@pytest.mark.parametrize('texts', _TEXTS, ids=range(len(_TEXTS)))
def test_random_tokens(tokenizer, texts):
  """Against the text, decoded again after every token."""
  form = chat.ChatFormat(tokenizer, stop_texts=texts)
  rng = np.random.default_rng(1)
  wanted = set(''.join(texts).encode())
  # Decoding does not join bytes of a character over a control piece.
  ids = [
    index
    for index, piece in enumerate(tokenizer.piece_bytes)
    if piece or ''.join(texts).isascii()
  ]
  likely = [i for i in ids if wanted.issuperset(tokenizer.piece_bytes[i])]
  related = [i for i in ids if wanted.intersection(tokenizer.piece_bytes[i])]
  # In the middle of a text, as an attempt is: no space is dropped there.
  before = tokenizer.encode('1')
  start = len(tokenizer.decode(before))
  seen = {'found': 0, 'not found': 0, 'at once': 0, 'inside': 0}
  for _ in range(300):
    pool = likely if rng.random() < 0.7 else related
    drawn = rng.choice(pool, size=9).tolist()

    def decode(count, drawn=drawn):
      return tokenizer.decode([*before, *drawn[:count]])[start:]

    count = _completing(decode, texts, len(drawn))
    assert _read(form.stop_table, drawn) == count
    text, attempt = decode(count or 9), drawn[: count or 9]
    shown = tokenizer.decode(attempt)
    if count:
      kept, ends_inside = _cut(text, texts)
      seen['at once'] += not kept
      seen['inside'] += ends_inside
      dropped = len(text) - len(shown)
      shown = kept[dropped:]
    seen['found' if count else 'not found'] += 1
    assert form.attempt_text(attempt) == shown
  assert all(seen.values()), seen


def _cut(text, texts):
  """The text before its first stop text, and whether it goes on after it."""
  end = next(e for e in range(len(text) + 1) if text[:e].endswith(texts))
  longest = max(len(t) for t in texts if text[:end].endswith(t))
  return text[: end - longest], end < len(text)


@pytest.mark.parametrize('text', ['x = 1\n[DONE]\n\nYou', '[DONE]', 'a[DONE]b'])
def test_a_given_text_ends_at_its_stop_text(tokenizer, text):
  form = chat.ChatFormat(tokenizer, stop_texts=('[DONE]', 'You'))
  ids = form.attempt_ids(text)
  assert _read(form.stop_table, ids) == len(ids)
  assert form.attempt_text(ids) == text.partition('[DONE]')[0]
  # As it is without one: a stop token.
  assert form.attempt_ids('x = 1') == [*tokenizer.encode('x = 1'), 2]


def test_pieces_joined_are_the_text(tokenizer):
  text = 'x = 1\n\n[DONE] é数\U0001f600\n'
  ids = tokenizer.encode('1' + text)
  joined = b''.join(tokenizer.piece_bytes[i] for i in ids).decode()
  assert joined.removeprefix(' ') == '1' + text


def test_an_empty_stop_text_is_rejected(tokenizer):
  with pytest.raises(ValueError, match='empty') as error:
    chat.ChatFormat(tokenizer, stop_texts=('a', ''))
  assert '\n' not in str(error.value)
