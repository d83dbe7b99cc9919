r"""Algebra on single answers: LaTeX to sympy, and whether two agree.

math-verify's grammar (latex2sympy) parses it, and nothing is evaluated as
Python; its comparison decides on relations and sets; expressions are compared
by their values at fixed points. Runs in grader processes: it imports sympy.
"""

import dataclasses
import math
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
_MOST_DIGITS = 100_000
_DEEPEST = 25
_MOST_PLACES = 2000
_MOST_SETS = 20
_SEED = 20240919


class UnparseableError(ValueError):
  """The grammar cannot read the answer, or it is too costly to try."""


def too_costly(text: str) -> bool:
  """Whether `text` would be hard to compute: large numbers, sums, depth.

  Checked before parsing: a call into big-integer arithmetic cannot be
  interrupted, so a time limit alone would cost the worker.
  """
  return bool(
    too_long_or_deep(text)
    or text.count('\\cup') > _MOST_SETS
    # Two signs in a row: (n!)! or the double factorial.
    or re.search(r'![\s{}]*!', text)
    or re.search(r'\\(?:sum|prod|int)(?![A-Za-z]).*[!^]', text, re.DOTALL)
    or _most_digits(text) > _MOST_DIGITS
  )


def too_long_or_deep(text: str) -> bool:
  """Whether `text` is too much for functions that follow its brackets."""
  return len(text) > _LONGEST or _depth(text) > _DEEPEST


def _depth(text: str) -> int:
  depth = deepest = 0
  for char in text:
    depth += (char in '([{') - (char in ')]}')
    deepest = max(deepest, depth)
  return deepest


def _most_digits(text: str) -> float:
  """A bound on the digits of any number that `text` stands for."""
  try:
    return _Sizes(text).of_all().digits
  except RecursionError:
    # Towers need no brackets to be deep.
    return math.inf


@dataclasses.dataclass(frozen=True)
class _Size:
  """Bounds on a number that is not computed, as powers of ten.

  Attributes:
    digits: on its numerator and its denominator.
    above: on its magnitude.
    below: on its inverse's magnitude.
    denominator: on the denominator that its constants give it.
  """

  digits: float = 0.0
  above: float = 0.0
  below: float = 0.0
  denominator: float = 0.0

  def times(self, other: '_Size') -> '_Size':
    return _Size(
      self.digits + other.digits,
      self.above + other.above,
      self.below + other.below,
      self.denominator + other.denominator,
    )

  def inverse(self) -> '_Size':
    return _Size(self.digits, self.below, self.above, self.digits)

  def power(self, exponent: '_Size') -> '_Size':
    factor = _ten_to(exponent.above)
    digits = max(self.digits, _LOG_2) * factor
    # Never less than of 2: then the bound of a^{b^c} is one of (a^b)^c, too.
    above = max(self.above, self.below, _LOG_2) * factor
    return _Size(digits, above, above, digits)

  def factorial(self) -> '_Size':
    digits = max(self.above, 1.0) * _ten_to(self.above)
    return _Size(digits, digits)


def _ten_to(exponent: float) -> float:
  return 10**exponent if exponent < 100 else math.inf


_LOG_2 = math.log10(2)
_UNBOUNDED = _Size(math.inf, math.inf, math.inf, math.inf)
_NUMBER = re.compile(r'(?=[0-9.])([0-9]*)\.?([0-9]*)(?:E([-+]?[0-9]+))?')
# A letter is one of the numbers of `_points`, and of the order of 1.
_LETTER = _Size(digits=4.0, above=0.5, below=0.5)


class _Sizes:
  """Bounds on the numbers that an answer's LaTeX stands for, part by part.

  Where a spelling has several readings, as `2^10` and `a^b^c` have, the bound
  holds for all of them. Brackets nest at most `_DEEPEST` levels.
  """

  _TOKEN = re.compile(
    r'\\[A-Za-z]+|\\.|\*\*|[0-9]*\.?[0-9]+(?:E[-+]?[0-9]+)?|\S', re.DOTALL
  )
  _SKIPPED = re.compile(
    r"\\(?:left|right|limits|cdot|times|prime|quad|[,;:! ])|[*'~.]"
  )
  _OPENING, _CLOSING = ('(', '[', '{', '\\{'), (')', ']', '}', '\\}', '')
  # What stands before these may be what they close.
  _FENCES = re.compile(r'\\?\||\\(?:r(?:floor|ceil|vert|Vert|angle)|end)')
  _BETWEEN_TERMS = re.compile(
    r'[-+,;&=<>]|\\(?:pm|mp|[lg]eq?|[lg]t|neq?|in|to|cup|cap|setminus|\\)'
  )

  def __init__(self, text: str):
    tokens = self._TOKEN.findall(text)
    self._tokens = [t for t in tokens if not self._SKIPPED.fullmatch(t)]
    self._tokens.reverse()

  def _peek(self) -> str:
    return self._tokens[-1] if self._tokens else ''

  def of_all(self) -> _Size:
    """Size of the whole text, which may have closing brackets too many."""
    size = self.of_sequence()
    while self._tokens:
      self._tokens.pop()
      size = self._powers(size).times(self.of_sequence())
    return size

  def of_sequence(self) -> _Size:
    """Size of a sum of products, or of a list, up to a closing bracket."""
    terms = [_Size()]
    while (token := self._peek()) not in self._CLOSING:
      if self._BETWEEN_TERMS.fullmatch(token):
        self._tokens.pop()
        terms.append(_Size())
      elif token in ('/', '\\div'):
        self._tokens.pop()
        divisor = self._powers(self._part())
        terms[-1] = terms[-1].times(divisor.inverse())
      elif self._FENCES.fullmatch(token):
        self._part()
        terms = [self._powers(_sum(terms))]
      else:
        terms[-1] = terms[-1].times(self._powers(self._part()))
    return _sum(terms)

  def _part(self) -> _Size:
    """Size of a number, a letter, brackets, or a function of brackets."""
    token = self._tokens.pop() if self._tokens else ''
    if token in self._OPENING:
      size = self.of_sequence()
      if self._tokens:
        self._tokens.pop()
      return size
    if number := _NUMBER.fullmatch(token):
      return _size_of_number(*number.groups(''))
    if token == '\\frac':
      return self._part().times(self._part().inverse())
    if token == '\\binom':
      # At most 2^n.
      return _Size().power(_sum([self._part(), self._part()]))
    size = _LETTER
    if token.startswith('\\'):
      while self._peek() in self._OPENING:
        argument = self._part()
        size = (
          size.power(argument) if token == '\\exp' else size.times(argument)
        )
    return size

  def _powers(self, size: _Size) -> _Size:
    """Size of `size` with what stands behind it: exponents, indices, `!`."""
    while (token := self._peek()) in ('^', '**', '_', '!'):
      self._tokens.pop()
      if token == '!':
        size = size.factorial()
      elif token == '_':
        size = size.times(self._part())
      else:
        size = size.power(self._exponent())
        if self._peek() == '!':
          # `2^3!` is (2^3)! or 2^{3!}: neither bound holds for the other.
          return _UNBOUNDED
    return size

  def _exponent(self) -> _Size:
    while self._peek() in ('+', '-'):
      self._tokens.pop()
    bare_function = re.fullmatch(r'\\[A-Za-z]+', self._peek())
    size = self._part()
    if bare_function and re.match(r'[A-Za-z0-9.\\]', self._peek()):
      size = size.times(self._exponent())
    if self._peek() in ('^', '**', '_'):
      size = self._powers(size)
    return size


def _sum(terms: list[_Size]) -> _Size:
  if len(terms) == 1:
    return terms[0]
  denominator = sum(term.denominator for term in terms)
  return _Size(
    sum(term.digits for term in terms),
    max(term.above for term in terms) + math.log10(len(terms)),
    denominator,
    denominator,
  )


def _size_of_number(whole: str, places: str, exponent: str) -> _Size:
  log = math.log10(max(int(whole + places), 2))
  shift = float(exponent or 0) - len(places)
  denominator = max(-shift, 0.0)
  above = max(log + shift, 0.0)
  return _Size(log + abs(shift), above, denominator, denominator)


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
    exact = [e.subs(at) for e in (gold, pred)]
    values = [sympy.N(value, 30) for value in exact]
    if not all(v.is_number and v.is_finite for v in values):
      continue
    if any(x < 0 for x in point) and not all(v.is_real for v in values):
      continue
    if not _agree(exact, values) and (
      symbols or not _rounded(values, gold_place, pred_place)
    ):
      return False
    agreed += 1
    if not symbols:
      break
  return agreed >= (1 if not symbols else 3)


def _agree(exact: list[sympy.Expr], values: list[sympy.Expr]) -> bool:
  """Whether two numbers, given exactly and to 30 digits, are the same.

  Fractions are compared exactly: 2^{100} and 2^{100} + 1 have 30 digits in
  common. Other large numbers are compared to as many places as small ones.
  """
  if all(value.is_Rational for value in exact):
    return exact[0] == exact[1]
  size = max(abs(value) for value in values)
  if abs(values[0] - values[1]) > size * sympy.Rational(1, 10**18):
    return False
  if size < 10**6:
    return True
  digits = min(int(sympy.log(size, 10)), _MOST_PLACES) + 30
  values = [sympy.N(value, digits, maxn=digits + 100) for value in exact]
  return bool(
    abs(values[0] - values[1]) <= size / sympy.Integer(10) ** (digits - 12)
  )


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
