r"""Reads the structure of an answer: lists, tuples, sets, matrices, names.

Texts are in the spelling of `answer_text.plain`.
"""

import dataclasses
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
_FUNCTION_VALUE = re.compile(
  r"\s*[fghpqFGHPQ](?:_\{?\s*\w+\s*\}?|'|\^\\prime|\^\{\s*-\s*1\s*\})*"
  r'\s*(\(.*\))\s*',
  re.DOTALL,
)
_COMMA = re.compile('[,;]')
_EQUALS = re.compile(r'(?<![<>!=:\\])=(?!=)')
_PLUS = re.compile(r'\+')
_SUM = re.compile(r'\s*\\sum(?![A-Za-z])\s*(?:\\limits)?\s*_\s*(?=\{)')
_MORE_THAN_A_TERM = re.compile(
  r'(?<![\^_])[-+]|[=<>,;&]'
  r'|\\(?:pm|mp|[lg]eq?|[lg]t|neq?|approx|in|cup|cap|text)(?![A-Za-z])'
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
  return [part for part in _outermost(_COMMA, text) if part]


def _outermost(separator: re.Pattern, text: str) -> list[str]:
  """Parts of `text` between the separators that stand in no bracket."""
  parts, depth, start = [], 0, 0
  separators = {match.start() for match in separator.finditer(text)}
  for index, char in enumerate(text):
    escaped = index and text[index - 1] == '\\' and char not in '{}'
    if char in _OPENING and not escaped:
      depth += 1
    elif char in _CLOSING and not escaped:
      depth = max(0, depth - 1)
    elif index in separators and not depth and not escaped:
      parts.append(text[start:index])
      start = index + 1
  return [part.strip() for part in [*parts, text[start:]]]


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
  before are names and constants: `2x + z = 1` is an equation, not a value. The
  value of `5 = x` is its first. An approximation after an exact value is
  dropped.
  """
  parts = _APPROXIMATION.split(text)
  if len(parts) > 1:
    exact = parts[0].strip() and not _NAMES.fullmatch(parts[0])
    text = parts[0] if exact else parts[-1]
  member = re.match(rf'\s*({_NAME})\s*\\in(?![a-z])\s*(.+)', text, re.DOTALL)
  if member:
    return member[1].strip(), member[2].strip()
  sides = _outermost(_EQUALS, text)
  if len(sides) < 2 or not all(sides):
    return '', text.strip()
  if re.search(r'[<>]|\\(?:[lg]eq?|[lg]t|neq?)(?![A-Za-z])', text):
    return '', text.strip()
  if len(sides) == 2 and is_name(sides[1]) and not is_name(sides[0]):
    if not _is_constant(sides[0]):
      return '', text.strip()
    sides.reverse()
  names = [side for side in sides[:-1] if is_name(side)]
  others = [side for side in sides[:-1] if not is_name(side)]
  if others and not all(map(_is_constant, [*others, sides[-1]])):
    return '', text.strip()
  name = re.sub(r'\s|\([A-Za-z]\)', '', names[0]) if names else ''
  return name, sides[-1]


def is_name(text: str) -> bool:
  """Whether `text` names a value: `x`, `AB`, `f(x)`, `f(3)`, `(x, y)`."""
  return bool(_NAMES.fullmatch(text)) or _is_function_value(text)


def _is_function_value(text: str) -> bool:
  """Whether `text` is `f(3)` or `g(f(1))`; `x(3)` is a product."""
  match = _FUNCTION_VALUE.fullmatch(text)
  held = brackets(match[1]) if match else None
  return bool(held and held[1]) and all(
    _is_constant(part) or _is_function_value(part)
    for part in split_list(held[1])
  )


def _is_constant(text: str) -> bool:
  """Whether `text` has no free letter; limits and sums bind theirs."""
  if re.match(r'\s*\\(?:lim|sum|int|prod)', text):
    return True
  bare = re.sub(r'\\begin\{\w+\}|\\end\{\w+\}|\\[A-Za-z]+', '', text)
  return not re.search(r'[A-Za-z]', bare)


def is_set(text: str) -> bool:
  r"""Whether `text` is one set in braces, named or not."""
  held = brackets(named_value(text)[1])
  return bool(held) and held[0] == '{'


@dataclasses.dataclass(frozen=True)
class Sum:
  r"""The parts of `\sum_{i=1}^{n} a_i`."""

  index: str
  low: str
  high: str
  term: str


def written_sum(text: str) -> Sum | None:
  """The sum that `text` writes with a sign, None where it is none.

  Nor where several terms follow the sign: how many of them belong to it is a
  matter of opinion.
  """
  match = _SUM.match(text)
  low = match and _first_group(text[match.end() :])
  start = low and re.fullmatch(r'\s*([A-Za-z])\s*=(.+)', low[0], re.DOTALL)
  high = start and re.match(r'\s*\^\s*', low[1])
  high = high and _first_group(low[1][high.end() :])
  if not high or len(_outermost(_MORE_THAN_A_TERM, high[1])) > 1:
    return None
  term = high[1].strip()
  return (
    Sum(start[1], start[2].strip(), high[0].strip(), term) if term else None
  )


def with_index(held: Sum, index: str) -> str:
  """The term of the sum with another letter as its index."""
  return re.sub(
    r'\\[A-Za-z]+|[A-Za-z]',
    lambda match: index if match[0] == held.index else match[0],
    held.term,
  )


def terms(text: str) -> list[str]:
  """Terms of a sum; a minus sign is its term's."""
  text = re.sub(r'(?<=[^\^_{(\[\s])\s*-', '+-', text)
  return [term for term in _outermost(_PLUS, text) if term]


def _first_group(text: str) -> tuple[str, str] | None:
  """(the braces or the command or character that `text` begins with, rest)."""
  if not text.startswith('{'):
    match = re.match(r'\\[A-Za-z]+|[^\\}]', text)
    return (match[0], text[match.end() :]) if match else None
  depth = 0
  for index, char in enumerate(text):
    depth += (char == '{') - (char == '}')
    if not depth:
      return text[1:index], text[index + 1 :]
  return None


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
