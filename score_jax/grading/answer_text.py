r"""Unifies the spelling of an answer's LaTeX: frames, fonts, spaces, numbers.

Whether two answers are equal is decided in answer_equality.py and algebra.py.
Every rule is about notation in general.
"""

import re

from score_jax.grading import final_answer, quantities

_FONT = re.compile(
  r'\\(?:mathrm|mathbf|mathit|mathsf|mathcal|mathbb|boldsymbol|operatorname'
  r'|textbf|textit|textrm|bm|bf|rm)\s*\{([^{}]*)\}'
)
_TEXT = re.compile(r'\\(?:text|textnormal|mbox|hbox|textup)\s*\{([^{}]*)\}')
_SPACES = re.compile(r'(?<!\\)\\[,;:! ]|\\q?quad\b|~|\s+')
_SIZES = re.compile(
  r'\\(?:left|right|bigg?[lr]?|Bigg?[lr]?|displaystyle)(?![A-Za-z])'
)
_ELLIPSIS = re.compile(
  r'\\(?:c|l)?dots[bcimo]?(?![A-Za-z])|\u2026|(?<=[-+, ])\.\.\.(?=\s*[-+,])'
)
_SENTENCE_END = re.compile(
  r'(?<=[.!?])\s+(?:I hope it is correct\.?$)?|\n|answer:\s+', re.IGNORECASE
)
_SHORT_FRACTION = re.compile(
  r'\\frac\s*(?:([0-9])\s*([0-9])(?![0-9])'
  r'|([0-9])\s*\{|\{([^{}]*)\}\s*([0-9]))'
)


def plain(text: str) -> str:
  r"""`text` in one spelling: no frames, fonts, sizes or thousands separators.

  `\text{...}` becomes `\text{...}` with single spaces (units and words are
  read from it); other spaces are reduced to single blanks.
  """
  if '\\begin' not in text:
    # A doubled backslash before a command is an escape, not a new row.
    text = re.sub(r'\\\\(?=[A-Za-z])', r'\\', text)
  text = _ELLIPSIS.sub(r'\\ldots ', text)
  text = text.replace('\u2212', '-').replace('\u00d7', '\\times ')
  text = re.sub(r'\\[dtc]frac(?![A-Za-z])', r'\\frac', text)
  text = re.sub(r'\\([lg]e)([a-pr-z])(?![A-Za-z])', r'\\\1 \2', text)
  text = quantities.join_digits(text)
  text = _FONT.sub(r'\1', _SIZES.sub('', text))
  text = _TEXT.sub(lambda m: '\\text{' + ' '.join(m[1].split()) + '}', text)
  text = re.sub(r'\\text\{\s*\}', '', text)
  text = re.sub(r'\\phantom\s*(?:\{[^{}]*\}|\S)', '', text)
  text = re.sub(r'\\frac\s*(\\[A-Za-z]+)\s*([0-9])', r'\\frac{\1}{\2}', text)
  text = re.sub(r'\.\s*$', '', text)
  text = re.sub(r'^\\text\{\s*([0-9][^{}]*)\}$', r'\1', text.strip())
  text = re.sub(r'\s*\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree', '°', text)
  text = _SPACES.sub(' ', text).strip()
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

  In order: the forms of `final_answer`; the 34 of a last sentence 'The largest
  $n$ is 34.'; the last formula between math delimiters (all of them where
  nothing but separators stands outside); what follows 'answer is' or 'answer:';
  the text itself. Attempts are rewarded by `final_answer` alone.
  """
  text = re.sub(r'\\\\(?=boxed\s*\{|fbox\s*\{)', r'\\', text.strip())
  answer = final_answer.final_answer(text)
  if answer is not None:
    return answer
  sentences = [part for part in _SENTENCE_END.split(text) if part]
  value = final_answer.named_value(sentences[-1] if sentences else '')
  if value is not None:
    return value
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
