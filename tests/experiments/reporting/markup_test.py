"""Elements, escaping and differences by hand."""

import re

import pytest

from experiments.reporting import difference, markup, paper_results, plots, svg


def test_everything_is_escaped_but_html():
  inner = markup.element('b', '1 < 2')
  assert inner == '<b>1 &lt; 2</b>'
  outer = markup.element('p', inner, ' & ', None, 3, class_='x"y', hidden=True)
  assert outer == ('<p class="x&quot;y" hidden><b>1 &lt; 2</b> &amp; 3</p>')
  assert markup.element('meta', name='a', content=None) == '<meta name="a">'
  # A text that only looks like markup is none.
  assert markup.join(['<b>']) == '&lt;b&gt;'
  assert markup.join([markup.Html('<b>')]) == '<b>'


def without_marks(text):
  return re.sub(r'</?(?:ins|del)>', '', text)


@pytest.mark.parametrize(
  ('first', 'second', 'left', 'right'),
  [
    ('a b c', 'a x c', 'a <del>b</del> c', 'a <ins>x</ins> c'),
    ('same', 'same', 'same', 'same'),
    ('', 'new', '', '<ins>new</ins>'),
    ('a < b', 'a > b', 'a <del>&lt;</del> b', 'a <ins>&gt;</ins> b'),
    # Words are whole: 12 is not 13 with another digit.
    ('x = 12', 'x = 13', 'x = <del>12</del>', 'x = <ins>13</ins>'),
  ],
)
def test_words(first, second, left, right):
  assert difference.mark(first, second) == (left, right)


@pytest.mark.parametrize(
  ('first', 'second', 'left', 'right'),
  [
    # Place by place: the 9 that moved is no match.
    ('0996', '1006', '<del>099</del>6', '<ins>100</ins>6'),
    ('1203', '1303', '1<del>2</del>03', '1<ins>3</ins>03'),
    # Another number of digits: what is inserted.
    ('123', '1123', '123', '1<ins>1</ins>23'),
  ],
)
def test_digits(first, second, left, right):
  marked = difference.mark(first, second, by_character=True)
  assert marked[0] == left
  assert without_marks(marked[1]) == without_marks(right)


def test_long_texts_are_shown_whole():
  text = 'a ' * 5000 + '<'
  first, second = difference.mark(text, text + 'b')
  assert first == text.replace('<', '&lt;')
  assert second.endswith('&lt;b')


def test_pictures_take_the_pages_colours():
  axes = plots.new_axes()
  axes.plot([0, 1], [0, 1], color=plots.COLOURS[1], label='a < b')
  axes.set_title('x & y', color=plots.INK)
  plots.add_legend(axes)
  text = svg.inline(axes.figure, 'one', 'a "line"')
  assert text.startswith('<svg viewBox=')
  assert 'aria-label="a &quot;line&quot;"' in text
  assert 'var(--c2)' in text
  assert 'var(--ink)' in text
  for colour in (plots.COLOURS[1], plots.INK, plots.MUTED, plots.GRID):
    assert colour not in text
  assert 'a &lt; b' in text
  assert 'http' not in text
  assert 'DejaVu' not in text
  again = svg.inline(axes.figure, 'two', 'a line')
  ids = [set(re.findall(r'id="([^"]*)"', each)) for each in (text, again)]
  assert ids[0]
  assert not ids[0] & ids[1]


def test_the_papers_numbers_add_up():
  # Second minus first attempt, and corrected minus spoilt, in every row.
  for table in (paper_results.MATH, paper_results.CODE):
    for name, row in table.rows.items():
      first, second, delta, corrected, spoilt = row[-5:]
      assert second - first == pytest.approx(delta, abs=0.05), name
      assert corrected - spoilt == pytest.approx(delta, abs=0.05), name
  for first, second, delta in paper_results.MATH_ABLATIONS.rows.values():
    assert second - first == pytest.approx(delta, abs=0.05)


@pytest.mark.parametrize(
  ('task', 'count'), [('math', 3), ('mbpp', 1), ('repair', 1), ('gsm8k', 0)]
)
def test_only_tasks_of_the_paper_have_its_numbers(task, count):
  assert len(paper_results.tables_for(task)) == count
