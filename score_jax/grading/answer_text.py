r"""Reads an answer's LaTeX without algebra: frames, fonts, numbers, lists.

Only spellings are unified here; whether two expressions are equal is decided
in answer_equality.py and algebra.py. Every rule is about notation in general.
"""

import re

from score_jax.grading import final_answer

_FONT = re.compile(
  r'\\(?:mathrm|mathbf|mathit|mathsf|mathcal|mathbb|boldsymbol|operatorname'
  r'|textbf|textit|textrm|bm|bf|rm)\s*\{([^{}]*)\}'
)
_TEXT = re.compile(r'\\(?:text|textnormal|mbox|hbox|textup)\s*\{([^{}]*)\}')
_SPACES = re.compile(r'(?<!\\)\\[,;:! ]|\\q?quad\b|~|\s+')
_SIZES = re.compile(
  r'\\(?:left|right|bigg?[lr]?|Bigg?[lr]?|displaystyle)(?![A-Za-z])'
)
_THOUSANDS = re.compile(
  r'(?<![\w.,(\[])(?<!\\\{)[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]|,[0-9])'
)
_LATEX_THOUSANDS = re.compile(
  r'(?<=[0-9])(?:,\\!\s*|\{,\}|\\,)(?=[0-9]{3}(?!\d))'
)
_SHORT_FRACTION = re.compile(
  r'\\frac\s*(?:([0-9])\s*([0-9])(?![0-9])'
  r'|([0-9])\s*\{|\{([^{}]*)\}\s*([0-9]))'
)
_APPROXIMATION = re.compile(r'\\approx|\\simeq|\\doteq|\u2248')
_AND_OR = re.compile(
  r'(\\text\{[^{}]*\})|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])'
  r'|(?<=[0-9)])or(?=[A-Za-z(])'
)
_OPENING, _CLOSING = '([{', ')]}'


def plain(text: str) -> str:
  r"""`text` in one spelling: no frames, fonts, sizes or thousands separators.

  `\text{...}` becomes `\text{...}` with single spaces (units and words are
  read from it); other spaces are reduced to single blanks.
  """
  if '\\begin' not in text:
    # A doubled backslash before a command is an escape, not a new row.
    text = re.sub(r'\\\\(?=[A-Za-z])', r'\\', text)
  text = text.replace('\u2212', '-').replace('\u00d7', '\\times ')
  text = re.sub(r'\\[dtc]frac(?![A-Za-z])', r'\\frac', text)
  text = re.sub(r'\\([lg]e)([a-pr-z])(?![A-Za-z])', r'\\\1 \2', text)
  text = _LATEX_THOUSANDS.sub(',', text)
  text = _FONT.sub(r'\1', _SIZES.sub('', text))
  text = _TEXT.sub(lambda m: '\\text{' + ' '.join(m[1].split()) + '}', text)
  text = re.sub(r'\\text\{\s*\}', '', text)
  text = re.sub(r'\\phantom\s*(?:\{[^{}]*\}|\S)', '', text)
  text = re.sub(r'\\frac\s*(\\[A-Za-z]+)\s*([0-9])', r'\\frac{\1}{\2}', text)
  text = re.sub(r'\.\s*$', '', text)
  text = re.sub(r'^\\text\{\s*([0-9][^{}]*)\}$', r'\1', text.strip())
  text = re.sub(r'\s*\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree', '°', text)
  text = _SPACES.sub(' ', text).strip()
  text = _THOUSANDS.sub(lambda m: m.group().replace(',', ''), text)
  return _full_fractions(text).strip()


def _full_fractions(text: str) -> str:
  r"""Spells `\frac12`, `\frac1{72}` and `\frac{1}2` with both braces."""

  def braces(match):
    if match[1]:
      return f'\\frac{{{match[1]}}}{{{match[2]}}}'
    if match[3]:
      return f'\\frac{{{match[3]}}}{{'
    return f'\\frac{{{match[4]}}}{{{match[5]}}}'

  return _SHORT_FRACTION.sub(braces, text)


def stated(text: str) -> str:
  r"""The answer in a short text that holds one: `pred` and `gold` fields.

  In order: the forms of `final_answer`; the last formula between math
  delimiters (all of them where nothing but separators stands outside); what
  follows 'answer is' or 'answer:'; the text itself. Attempts are
  rewarded by `final_answer` alone.
  """
  text = re.sub(r'\\\\(?=boxed\s*\{|fbox\s*\{)', r'\\', text.strip())
  answer = final_answer.final_answer(text)
  if answer is not None:
    return answer
  text = re.sub(r'^\$?\\boxed\s*\{', '', text)
  formulas = re.findall(
    r'(?<!\\)\$\$(.+?)(?<!\\)\$\$|(?<!\\)\$(.+?)(?<!\\)\$'
    r'|\\\[(.+?)\\\]|\\\((.+?)\\\)',
    text[:5000],
    re.DOTALL,
  )
  if formulas:
    whole = final_answer.unframe(text)
    listed = re.sub(r'\\[()\[\]]', '$', text).count('$')
    prose = re.search(r'[A-Za-z]{4,}', re.sub(r'\$[^$]*\$', '', text))
    if not prose and listed % 2 == 0:
      return whole
    return ''.join(formulas[-1]).strip()
  said = re.search(
    r'answer(?:\s+is|:)\s*(?!.*answer(?:\s+is|:))(.+)', text, re.I
  )
  return final_answer.unframe(said[1] if said else text)


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


_NAME = (
  r'(?:\\?[A-Za-z]+|\\[A-Za-z]+\s*[A-Za-z]*)'
  r"(?:_\{?\s*\w+\s*\}?|'|\^\\prime|\s*\([a-zA-Z]\))*"
)
_NAMES = re.compile(
  rf'\s*(?:{_NAME}|\|\s*[A-Z]+\s*\||\(\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\)'
  rf'|\\frac\{{\s*{_NAME}\s*\}}\{{\s*{_NAME}\s*\}}|{_NAME}\s*/\s*{_NAME}'
  r'|\\angle\s*[A-Z]+)\s*'
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
