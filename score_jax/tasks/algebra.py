r"""Algebra on single answers: LaTeX to sympy, and whether two agree.

math-verify's grammar reads the LaTeX (nothing is evaluated as Python), its
comparison judges relations and sets; expressions are compared by their values
at fixed points. Runs in grader processes only: it imports sympy.
"""

import fractions
import re
import warnings

import math_verify
import sympy

_PARSER = [math_verify.LatexExtractionConfig()]
_POWER = r'(?:\^|\*\*)'
_SEED = 20240919


class UnparseableError(ValueError):
  """The answer is no mathematics that the grammar knows."""


def too_costly(text: str) -> bool:
  """Whether a power tower or factorial in `text` would be hard to compute."""
  flat = re.sub(r'[\s{}()\\]|left|right', '', text)
  return bool(
    re.search(r'\^-?\d{4,}|\*\*-?\d{4,}|\d{4,}!|!!|!\^', flat)
    or re.search(
      r'(?:\^|\*\*)[^+\-=,;&]{0,40}(?:\^|\*\*)\d*[^+\-=,;&]*\^', flat
    )
    or re.search(rf'{_POWER}-?\d{(2,)}{_POWER}-?\d{(2,)}', flat)
    or re.search(rf'{_POWER}-?\d+{_POWER}-?\d+(?:\^|\*\*)', flat)
    or re.search(r'(?:sum|prod|int).*(?:!|\^)', flat)
    or len(text) > 1000
  )


def parse(text: str):
  """The sympy object that `text` denotes.

  Raises:
    UnparseableError: the grammar does not take it.
  """
  text = text.replace('°', r' \cdot \frac{\pi}{180}')
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    found = math_verify.parse(
      f'${text}$',
      extraction_config=_PARSER,
      fallback_mode='no_fallback',
      parsing_timeout=None,
    )
  if not found:
    raise UnparseableError(f'cannot read {text[:80]!r}')
  return found[0]


def is_scalar(parsed) -> bool:
  return isinstance(parsed, sympy.Expr) and not isinstance(
    parsed, sympy.MatrixBase | sympy.MatrixExpr
  )


def same_relation(gold: str, pred: str) -> bool:
  """Relations, intervals and unions, by math-verify's own comparison."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    return math_verify.verify(
      parse(gold),
      parse(pred),
      float_rounding=12,
      strict=True,
      allow_set_relation_comp=True,
      timeout_seconds=None,
    )


def same_at_points(gold, pred, slack: fractions.Fraction) -> bool:
  """Whether two expressions agree at points drawn once and for all.

  All symbols positive first, where they must agree as complex numbers; then of
  either sign, where they must agree wherever both are real. Without symbols
  they may differ by less than `slack`, the last place of a long decimal.
  """
  gold, pred = _exact(gold), _exact(pred)
  symbols = sorted(gold.free_symbols | pred.free_symbols, key=str)
  agreed = 0
  for point in _points(len(symbols)):
    at = dict(zip(symbols, point))
    values = [sympy.N(e.subs(at), 30) for e in (gold, pred)]
    if not all(v.is_number and v.is_finite for v in values):
      continue
    if any(x < 0 for x in point) and not all(v.is_real for v in values):
      continue
    apart = abs(values[0] - values[1])
    if apart > max(abs(v) for v in values) * 1e-18 and (
      symbols or apart >= sympy.Rational(slack)
    ):
      return False
    agreed += 1
    if not symbols:
      break
  return agreed >= (1 if not symbols else 3)


def _exact(expression: sympy.Expr) -> sympy.Expr:
  """Decimals as fractions, the letter i as the imaginary unit."""
  decimals = expression.atoms(sympy.Float)
  exact = {d: sympy.Rational(str(d)) for d in decimals}
  units = {s: sympy.I for s in expression.free_symbols if s.name == 'i'}
  return expression.xreplace(exact | units)


def _points(dimension: int) -> list[tuple[sympy.Rational, ...]]:
  state = _SEED
  points = []
  for row in range(8):
    point = []
    for _ in range(dimension):
      state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
      value = sympy.Rational(state % 9973 + 1, 3331)
      negative = row == 4 or (row > 4 and (state >> 40) % 2)
      point.append(-value if negative else value)
    points.append(tuple(point))
  return points
