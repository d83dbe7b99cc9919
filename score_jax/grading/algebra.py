r"""Algebra on single answers: LaTeX to sympy, and whether two agree.

math-verify's grammar (latex2sympy) parses it, and nothing is evaluated as
Python; its comparison decides on relations and sets; expressions are compared
by their values at fixed points. Runs in grader processes: it imports sympy.
"""

import dataclasses
import re
import warnings

import latex2sympy2_extended
import math_verify
import sympy

# Units are read in quantities.py; here letters are variables.
_SPELLING = dataclasses.replace(
  math_verify.LatexExtractionConfig().normalization_config, units=False
)
_LONGEST = 1000
_HIGHEST_POWER = 99_999
_DEEPEST = 25
_MOST_SETS = 20
_SEED = 20240919


class UnparseableError(ValueError):
  """The grammar cannot read the answer, or it is too costly to try."""


def too_costly(text: str) -> bool:
  """Whether `text` would be hard to compute: towers, factorials, depth.

  Checked before parsing: a call into big-integer arithmetic cannot be
  interrupted, so a time limit alone would cost the worker.
  """
  flat = re.sub(r'[\s{}()\\]|left|right', '', text).replace('**', '^')
  towers = re.findall(r'(?=\^-?(\d{1,4})\^-?(\d{1,4}))', flat)
  return bool(
    len(text) > _LONGEST
    or text.count('\\cup') > _MOST_SETS
    or _depth(text) > _DEEPEST
    or re.search(r'\^-?\d{5,}|!!|!\^', flat)
    or re.search(r'\d{5,}[\s)}]*!', text)
    or re.search(r'\^[^+\-=,;&]{0,40}\^[^+\-=,;&]{0,40}\^', flat)
    or re.search(r'(?:sum|prod|int).*(?:!|\^)', flat)
    or any(int(low) ** int(high) > _HIGHEST_POWER for low, high in towers)
  )


def _depth(text: str) -> int:
  depth = deepest = 0
  for char in text:
    depth += (char in '([{') - (char in ')]}')
    deepest = max(deepest, depth)
  return deepest


def parse(text: str):
  """The sympy object that `text` denotes.

  Raises:
    UnparseableError: the grammar does not take it.
  """
  text = text.replace('°', r' \cdot \frac{\pi}{180}')
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      return latex2sympy2_extended.latex2sympy(
        latex2sympy2_extended.normalize_latex(text, _SPELLING),
        is_real=not re.search(r'(?<![A-Za-z\\])i(?![A-Za-z])', text),
        convert_degrees=False,
        normalization_config=None,
      )
  except Exception as error:  # the grammar's failures have no common class
    raise UnparseableError(f'cannot read {text[:80]!r}') from error


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


def rounds_to(exact, decimal, last_place) -> bool:
  """Whether `decimal` is `exact` rounded or cut off at its last place."""
  apart = abs(exact - decimal)
  if 2 * apart <= last_place:
    return True
  return bool(abs(decimal) < abs(exact) and apart < last_place)


def same_at_points(gold, pred, gold_place=0, pred_place=0) -> bool:
  """Whether two expressions agree at fixed pseudo-random points.

  Symbols are positive at the first points, where the expressions must agree as
  complex numbers, and of either sign at the others, where they must agree
  wherever both are real.

  Args:
    gold: an expression.
    pred: another.
    gold_place: value of the last place of `gold` where it is a long decimal,
      which may stand for the constant it rounds; else 0.
    pred_place: the same of `pred`.
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
      symbols or not _rounded(values, gold_place, pred_place)
    ):
      return False
    agreed += 1
    if not symbols:
      break
  return agreed >= (1 if not symbols else 3)


def _rounded(values, gold_place, pred_place) -> bool:
  if not all(value.is_real for value in values):
    return False
  gold, pred = values
  if gold_place:
    return rounds_to(pred, gold, sympy.Rational(gold_place))
  return bool(pred_place) and rounds_to(gold, pred, sympy.Rational(pred_place))


def _exact(expression: sympy.Expr) -> sympy.Expr:
  """Decimals as fractions, the letter i as the imaginary unit."""
  decimals = expression.atoms(sympy.Float)
  exact = {d: sympy.Rational(str(d)) for d in decimals}
  units = {s: sympy.I for s in expression.free_symbols if s.name == 'i'}
  return expression.xreplace(exact | units)


def _points(dimension: int) -> list[tuple[sympy.Rational, ...]]:
  # A generator of its own: verdicts must not change with a library's version.
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
