"""What a second attempt changed in the first, marked in both."""

import difflib
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
      than words and the spaces between them.
  """
  pieces = [_split(text, by_character) for text in (first, second)]
  if max(map(len, pieces)) > _LONGEST:
    return markup.join([first]), markup.join([second])
  before, after = pieces
  matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
  left, right = [], []
  for kind, i, j, k, m in matcher.get_opcodes():
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


def _split(text: str, by_character: bool) -> list[str]:
  return list(text) if by_character else re.findall(r'\s+|\w+|[^\w\s]', text)
