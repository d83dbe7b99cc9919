"""What a second attempt changed in the first, marked in both."""

from collections.abc import Iterator
import difflib
import itertools
import re

from experiments.reporting import markup

# Comparing takes quadratic time; what is longer is shown without marks.
_LONGEST = 4000


def mark(
  first: str, second: str, *, by_character: bool = False
) -> tuple[markup.Html, markup.Html]:
  """Both attempts, with what went as <del> and what came as <ins>.

  Args:
    first: the first attempt.
    second: the second.
    by_character: compare characters, which reads better for numbers, rather
      than words and the spaces between them. Numbers with as many digits are
      compared place by place.
  """
  pieces = [_split(text, by_character) for text in (first, second)]
  if max(map(len, pieces)) > _LONGEST:
    return markup.join([first]), markup.join([second])
  before, after = pieces
  left, right = [], []
  for kind, i, j, k, m in _steps(before, after, by_character):
    gone, come = ''.join(before[i:j]), ''.join(after[k:m])
    if kind == 'equal':
      left.append(gone)
      right.append(come)
      continue
    if gone:
      left.append(markup.element('del', gone))
    if come:
      right.append(markup.element('ins', come))
  return markup.join(left), markup.join(right)


def _steps(
  before: list[str], after: list[str], by_place: bool
) -> Iterator[tuple[str, int, int, int, int]]:
  """Runs of equal and of different pieces, as difflib's opcodes."""
  if not by_place or len(before) != len(after):
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    yield from matcher.get_opcodes()
    return
  places = range(len(before))
  for is_same, run in itertools.groupby(
    places, lambda i: before[i] == after[i]
  ):
    first, *rest = run
    last = (rest[-1] if rest else first) + 1
    yield 'equal' if is_same else 'replace', first, last, first, last


def _split(text: str, by_character: bool) -> list[str]:
  return list(text) if by_character else re.findall(r'\s+|\w+|[^\w\s]', text)
