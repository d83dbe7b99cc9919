"""What changed between two attempts, by hand."""

import pytest

from experiments.reporting import episodes


def tagged(pieces):
  return ''.join(f'<{kind} {text}>' if kind else text for kind, text in pieces)


@pytest.mark.parametrize(
  ('first', 'second', 'left', 'right'),
  [
    ('a b c', 'a x c', 'a <del b> c', 'a <ins x> c'),
    ('same', 'same', 'same', 'same'),
    ('', 'new', '', '<ins new>'),
    # Words are whole: 12 is not 13 with another digit.
    ('x = 12', 'x = 13', 'x = <del 12>', 'x = <ins 13>'),
  ],
)
def test_words(first, second, left, right):
  marked = episodes.mark(first, second)
  assert tuple(map(tagged, marked)) == (left, right)


@pytest.mark.parametrize(
  ('first', 'second', 'left', 'right'),
  [
    # Place by place: the 9 that moved is no match.
    ('0996', '1006', '<del 099>6', '<ins 100>6'),
    ('1203', '1303', '1<del 2>03', '1<ins 3>03'),
    # Another number of digits: what is inserted.
    ('123', '1293', '123', '12<ins 9>3'),
  ],
)
def test_digits(first, second, left, right):
  marked = episodes.mark(first, second, by_character=True)
  assert tuple(map(tagged, marked)) == (left, right)


def test_long_texts_are_whole_and_unmarked():
  text = 'a ' * 5000
  marked = episodes.mark(text, text + 'b')
  assert marked == ([('', text)], [('', text + 'b')])
