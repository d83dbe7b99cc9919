r"""Reads the structure of an answer: lists, tuples, sets, matrices, names.

Texts are in the spelling of `answer_text.plain`.
"""

import re

_APPROXIMATION = re.compile(r'\\approx|\\simeq|\\doteq|\u2248')
_AND_OR = re.compile(
  r'(\\text\{[^{}]*\})|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])'
  r'|(?<=[0-9)])or(?=[A-Za-z(])'
)
_OPENING, _CLOSING = '([{', ')]}'
_NAME = (
  r'(?:\\?[A-Za-z]+|\\[A-Za-z]+\s*[A-Za-z]*)'
  r"(?:_\{?\s*\w+\s*\}?|'|\^\\prime|\s*\([a-zA-Z]\))*"
)
_NAMES = re.compile(
  rf'\s*(?:{_NAME}|\|\s*[A-Z]+\s*\||\(\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\)'
  rf'|\\frac\{{\s*{_NAME}\s*\}}\{{\s*{_NAME}\s*\}}|{_NAME}\s*/\s*{_NAME}'
  r'|\\angle\s*[A-Z]+)\s*'
)
_MATRIX = re.compile(
  r'\\begin\{([pbvBV]?matrix|array)\}(?:\{[^{}]*\})?(.*)\\end\{\1\}', re.DOTALL
)


def without_text(text: str) -> str:
  r"""`text` with the contents of `\text{}` in its place."""
  return re.sub(r'\\text\{([^{}]*)\}', r'\1', text)


def is_words(text: str) -> bool:
  """Whether the answer is prose: a name, 'even', '(C)'."""
  bare = without_text(text)
  only_text = re.fullmatch(r'(?:\s*\\text\{[^{}]*[A-Za-z][^{}]*\}\s*)+', text)
  letters = re.fullmatch(r"\(?[A-Za-z][A-Za-z' .,-]*\)?", bare)
  if only_text and re.fullmatch(r"[A-Za-z0-9' .,-]+", bare):
    return True
  word = re.search(r'[A-Za-z]{3,}', bare)
  choice = re.fullmatch(r'\(?[A-Z]\)?', bare)
  return bool(letters and (only_text or word or choice))


def words(text: str) -> str:
  """Prose in one spelling; a single letter keeps its case."""
  bare = without_text(text).strip()
  bare = bare.strip('()').rstrip('.').strip()
  return bare if len(bare) == 1 else ' '.join(bare.casefold().split())


def split_list(text: str) -> list[str]:
  """Parts of `text` between its outermost commas, semicolons, 'and', 'or'."""
  text = re.sub(r'\\text\{\s*,?\s*(?:and|or)\s*,?\s*\}', ',', text)
  text = _AND_OR.sub(lambda m: m[1] or ',', text)
  parts, depth, start = [], 0, 0
  for index, char in enumerate(text):
    escaped = index and text[index - 1] == '\\' and char not in '{}'
    if char in _OPENING and not escaped:
      depth += 1
    elif char in _CLOSING and not escaped:
      depth = max(0, depth - 1)
    elif char in ',;' and not depth and not escaped:
      parts.append(text[start:index])
      start = index + 1
  parts.append(text[start:])
  return [part.strip() for part in parts if part.strip()]


def brackets(text: str) -> tuple[str, str, str] | None:
  """(opening, inside, closing) where one bracket pair holds all of `text`."""
  text = text.replace('\\{', '{').replace('\\}', '}')
  if len(text) < 2 or text[0] not in _OPENING or text[-1] not in _CLOSING:
    return None
  depth = 0
  for index, char in enumerate(text):
    depth += (char in _OPENING) - (char in _CLOSING)
    if depth == 0 and index < len(text) - 1:
      return None
  return (text[0], text[1:-1].strip(), text[-1]) if depth == 0 else None


def is_tuple(bracketed: tuple[str, str, str] | None) -> bool:
  """Whether what `brackets` returned is a tuple or an interval."""
  return bool(
    bracketed and bracketed[0] != '{' and len(split_list(bracketed[1])) > 1
  )


def named_value(text: str) -> tuple[str, str]:
  r"""(name, value) of `x = 5`, `f(x) = 5`, `x \in A`; name '' for a bare value.

  The value of a chain of equalities is its last side, provided that the sides
  before are names and constants: `2x + z = 1` is an equation, not a value. An
  approximation after an exact value is dropped.
  """
  parts = _APPROXIMATION.split(text)
  if len(parts) > 1:
    exact = parts[0].strip() and not _NAMES.fullmatch(parts[0])
    text = parts[0] if exact else parts[-1]
  member = re.match(rf'\s*({_NAME})\s*\\in(?![a-z])\s*(.+)', text, re.DOTALL)
  if member:
    return member[1].strip(), member[2].strip()
  sides = re.split(r'(?<![<>!=:\\])=(?!=)', text)
  if len(sides) < 2 or not all(map(str.strip, sides)):
    return '', text.strip()
  if re.search(r'[<>]|\\(?:[lg]eq?|[lg]t|neq?)(?![A-Za-z])', text):
    return '', text.strip()
  names = [side for side in sides[:-1] if _NAMES.fullmatch(side)]
  others = [side for side in sides[:-1] if not _NAMES.fullmatch(side)]
  if others and not all(map(_is_constant, [*others, sides[-1]])):
    return '', text.strip()
  return (re.sub(r'\s|\(.\)', '', names[0]) if names else ''), sides[-1].strip()


def _is_constant(text: str) -> bool:
  """Whether `text` has no free letter; limits and sums bind theirs."""
  if re.match(r'\s*\\(?:lim|sum|int|prod)', text):
    return True
  bare = re.sub(r'\\begin\{\w+\}|\\end\{\w+\}|\\[A-Za-z]+', '', text)
  return not re.search(r'[A-Za-z]', bare)


def names_of(members: list[str]) -> list[str]:
  """The names of named values, [] unless all are named."""
  names = [named_value(member)[0] for member in members]
  return names if all(names) else []


def elements(text: str) -> list[str]:
  r"""Members of a bare list or set; `a \pm b` is two of them.

  Names that repeat in a cycle make a list of tuples: `p = 5, q = 2; p = 7,
  q = 2` is `(5,2)` and `(7,2)`.
  """
  bracketed = brackets(text)
  if bracketed and bracketed[0] == '{':
    text = bracketed[1]
  parts = split_list(text)
  names = names_of(parts)
  period = len(set(names))
  if period > 1 and len(names) > period and len(names) % period == 0:
    values = [named_value(part)[1] for part in parts]
    return [
      f'({",".join(values[i : i + period])})'
      for i in range(0, len(values), period)
    ]
  if len(parts) == 1 and (bracketed is None or bracketed[0] == '{'):
    name, value = named_value(parts[0])
    inner = split_list(value)
    held = brackets(value)
    if name and (len(inner) > 1 or (held and held[0] == '{')):
      return elements(value)
  expanded = []
  for part in parts:
    if len(re.findall(r'\\pm(?![a-z])', part)) == 1:
      part = named_value(part)[1]
      expanded += [
        re.sub(r'\\pm(?![a-z])', sign, part, count=1) for sign in '+-'
      ]
    else:
      expanded.append(part)
  return expanded


def matrix(text: str) -> list[list[str]] | None:
  """Cells of a LaTeX matrix by row; None for determinants and other text."""
  text = re.sub(r'^[\[(]\s*(?=\\begin)|(?<=\})\s*[\])]$', '', text.strip())
  match = _MATRIX.fullmatch(text)
  if not match or match[1] == 'vmatrix' or '\\begin' in match[2]:
    return None
  rows = re.split(r'\\\\(?:\[[^\]]*\])?', match[2])
  return [
    [cell.strip() for cell in row.split('&')] for row in rows if row.strip()
  ]
