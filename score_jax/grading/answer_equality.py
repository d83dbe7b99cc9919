r"""Equality of two answers: structure first, algebra last.

Lists, tuples, sets, named values, matrices, units and numbers are compared by
rule; what is left, single expressions and relations, goes to algebra.py.
"""

import dataclasses
import decimal
import fractions
import re
from typing import Literal

from score_jax.grading import algebra, answer_structure, answer_text, quantities

# A stretch of terms and the signs between it and the gaps around it.
_STRETCH = re.compile(
  r'\s*(?:\\cdot|\\times)?([-+]?)\s*(.*?)\s*(?:\\cdot|\\times)?([-+]?)\s*',
  re.DOTALL,
)
_DIGITS_APART = re.compile(r'(?<![_^0-9.])[0-9][0-9.]*\s+[0-9]')


@dataclasses.dataclass(frozen=True)
class Conventions:
  """Debatable points of equality.

  Attributes:
    percent: 'either' takes 10% for both 10 and 0.1; 'value' for 0.1 alone.
    decimal_digits: significant digits from which a correctly rounded decimal
      stands for an exact value; a shorter one has to be equal.
  """

  percent: Literal['either', 'value'] = 'either'
  decimal_digits: int = 10


def same(gold: str, pred: str, conventions: Conventions | None = None) -> bool:
  """Whether `pred` is the same answer as `gold`.

  Args:
    gold: the reference answer; it decides how the answer is read.
    pred: the attempt's answer.
    conventions: settles debatable points.

  Raises:
    algebra.UnparseableError: `pred` had to be parsed and could not be.
  """
  conventions = conventions or Conventions()
  gold, pred = answer_text.plain(gold), answer_text.plain(pred)
  if _squeezed(gold) == _squeezed(pred):
    return bool(_squeezed(gold))
  if not gold or not pred:
    return False
  _reject_costly(pred)
  return _same_lists(gold, pred, conventions)


def _reject_costly(text: str) -> None:
  """Raises where `text` is too costly; sums are compared and not computed."""
  held = None
  if not algebra.too_long_or_deep(text):
    held = answer_structure.written_sum(answer_structure.named_value(text)[1])
  if held:
    for part in (held.low, held.high, held.term):
      _reject_costly(part)
  elif algebra.too_costly(text):
    raise algebra.UnparseableError('too large or too deep to compute')


def readable(gold: str) -> bool:
  """Whether `gold` is understood well enough to recognise it respelled."""
  gold = answer_text.plain(gold)
  if answer_structure.is_words(gold):
    return True
  parts = [
    answer_structure.named_value(part)[1]
    for part in answer_structure.elements(gold)
  ]
  return bool(parts) and all(map(_is_readable_value, parts))


def _is_readable_value(text: str) -> bool:
  held, matrix = answer_structure.brackets(text), answer_structure.matrix(text)
  if answer_structure.is_tuple(held):
    return all(map(_is_readable_value, answer_structure.split_list(held[1])))
  if matrix:
    return all(_is_readable_value(cell) for row in matrix for cell in row)
  held_sum = answer_structure.written_sum(text)
  if held_sum:
    return _is_readable_value(held_sum.term)
  value = quantities.quantity(text).value
  if quantities.time_of_day(text) or quantities.exact_number(value):
    return True
  if answer_structure.is_words(value) or _has_base(value):
    return True
  try:
    algebra.parse(value)
  except algebra.UnparseableError:
    return False
  return '\\text' not in value


def _squeezed(text: str) -> str:
  """`text` without spaces, but for those that keep two numbers apart."""
  text = answer_structure.without_text(text)
  text = re.sub(r'(?<=[0-9])\s+(?=[0-9])', '\x00', text.strip().lstrip('+'))
  return re.sub(r'\s+|\.$', '', text)


def _same_lists(gold: str, pred: str, conventions: Conventions) -> bool:
  if answer_structure.is_words(gold):
    return answer_structure.words(gold) == answer_structure.words(pred)
  golds, preds = (
    answer_structure.elements(gold),
    answer_structure.elements(pred),
  )
  if answer_structure.is_set(gold) and answer_structure.is_set(pred):
    preds = _at_most(len(golds), preds)
  if len(golds) != len(preds):
    return False
  if len(golds) == 1:
    return _same_value(golds[0], preds[0], conventions)
  names = [answer_structure.names_of(golds), answer_structure.names_of(preds)]
  if all(names) and set(names[0]) == set(names[1]) and _distinct(names[0]):
    by_name = dict(zip(names[1], preds))
    preds = [by_name[name] for name in names[0]]
  ordered = any(_distinct(n) for n in names if n)
  if ordered:
    pairs = zip(golds, preds)
    return all(_same_value(g, p, conventions) for g, p in pairs)
  return _same_in_any_order(golds, preds, conventions)


def _at_most(number: int, members: list[str]) -> list[str]:
  r"""`members` of an attempt's set, without repetitions if there are too many.

  A set that repeats a member is the same set. Where the reference repeats one,
  they count: there, `\{1, 2\}` is not `\{1, 2, 2\}`.
  """
  if len(members) <= number:
    return members
  once: dict[object, str] = {}
  for member in members:
    value = quantities.exact_number(member)
    once.setdefault(value[0] if value else _squeezed(member), member)
  return list(once.values())


def _distinct(names: list[str]) -> bool:
  return len(set(names)) == len(names)


def _same_in_any_order(
  golds: list[str], preds: list[str], conventions: Conventions
) -> bool:
  # Each member is used once, so that `1,1` is not `1,2`.
  left = list(preds)
  for gold in golds:
    for candidate in left:
      if _same_value(gold, candidate, conventions):
        left.remove(candidate)
        break
    else:
      return False
  return True


def _same_value(gold: str, pred: str, conventions: Conventions) -> bool:
  if _squeezed(gold) == _squeezed(pred):
    return True
  times = quantities.time_of_day(gold), quantities.time_of_day(pred)
  if all(times):
    return _same_time(*times)
  gold_name, gold_value = answer_structure.named_value(gold)
  pred_name, pred_value = answer_structure.named_value(pred)
  sums = (
    answer_structure.written_sum(gold_value),
    answer_structure.written_sum(pred_value),
  )
  if any(sums):
    same_name = not (gold_name and pred_name) or gold_name == pred_name
    return same_name and _same_sums(*sums, conventions)
  if _is_equation(gold_value) or _is_equation(pred_value):
    # An equation is no value: `7 = 11a + c` is not `11a + c`.
    both = _is_equation(gold) and _is_equation(pred)
    return both and algebra.same_relation(gold, pred)
  if gold_name and pred_name and gold_name != pred_name:
    functions = re.search('[a-z]', gold_value) and re.search(
      '[a-z]', pred_value
    )
    if not (functions and {gold_name, pred_name} & {'y', 'f', 'g', 'z'}):
      return False
    if '(' in gold_name + pred_name:
      return False
  if (gold, pred) != (gold_value, pred_value):
    return _same_lists(gold_value, pred_value, conventions)
  tuples = answer_structure.brackets(gold), answer_structure.brackets(pred)
  if any(answer_structure.is_tuple(t) for t in tuples):
    return _same_tuples(*tuples, gold, pred, conventions)
  matrices = answer_structure.matrix(gold), answer_structure.matrix(pred)
  if all(matrices):
    return _same_matrices(*matrices, conventions)
  return _same_quantity(gold, pred, conventions)


def _same_sums(
  gold: answer_structure.Sum | None,
  pred: answer_structure.Sum | None,
  conventions: Conventions,
) -> bool:
  """Whether two sums run over the same numbers and have the same term.

  Sums of other shapes may be equal, too: those are not computed.
  """
  if not pred:
    return False
  if not gold:
    raise algebra.UnparseableError('too large or too deep to compute')
  used = ''.join(dataclasses.astuple(gold) + dataclasses.astuple(pred))
  # Neither i nor e, which are numbers to algebra.
  index = next((letter for letter in 'kmnprstuvwxyz' if letter not in used), '')
  terms = [answer_structure.with_index(held, index) for held in (gold, pred)]
  return bool(index) and all(
    _same_value(g, p, conventions)
    for g, p in ((gold.low, pred.low), (gold.high, pred.high), terms)
  )


def _same_time(gold, pred) -> bool:
  half_day = 12 * 3600
  if gold[1] is None or pred[1] is None:
    return gold[0] % half_day == pred[0] % half_day
  return gold == pred


def _same_tuples(gold_in, pred_in, gold, pred, conventions) -> bool:
  if not (
    answer_structure.is_tuple(gold_in) and answer_structure.is_tuple(pred_in)
  ):
    return algebra.same_relation(gold, pred)
  if (gold_in[0], gold_in[2]) != (pred_in[0], pred_in[2]):
    return False
  golds, preds = (answer_structure.split_list(t[1]) for t in (gold_in, pred_in))
  return len(golds) == len(preds) and all(
    _same_value(g, p, conventions) for g, p in zip(golds, preds)
  )


def _same_matrices(golds, preds, conventions) -> bool:
  if list(map(len, golds)) != list(map(len, preds)):
    return False
  return all(
    _same_value(g, p, conventions)
    for gold_row, pred_row in zip(golds, preds)
    for g, p in zip(gold_row, pred_row)
  )


def _same_quantity(gold: str, pred: str, conventions: Conventions) -> bool:
  gold, pred = quantities.quantity(gold), quantities.quantity(pred)
  if gold.unit and pred.unit and gold.unit != pred.unit:
    return False
  if (gold.percent and pred.unit) or (pred.percent and gold.unit):
    return False
  if gold.percent == pred.percent:
    return _same_expression(gold.value, pred.value, conventions)
  hundredths = [
    f'\\frac{{{q.value}}}{{100}}' if q.percent else q.value
    for q in (gold, pred)
  ]
  if conventions.percent == 'either' and _same_expression(
    gold.value, pred.value, conventions
  ):
    return True
  return _same_expression(*map(_one_fraction, hundredths), conventions)


def _one_fraction(text: str) -> str:
  """Numbers over 100 as one number, so that they compare exactly."""
  match = re.fullmatch(r'\\frac\{(.*)\}\{100\}', text)
  number = quantities.exact_number(match[1]) if match else None
  if number is None:
    return text
  value = number[0] / 100
  return f'\\frac{{{value.numerator}}}{{{value.denominator}}}'


def _same_expression(gold: str, pred: str, conventions: Conventions) -> bool:
  if _primes(gold) != _primes(pred):
    return False
  numbers = quantities.exact_number(gold), quantities.exact_number(pred)
  if all(numbers):
    return _same_number(*numbers, conventions)
  if _has_base(gold) or _has_base(pred):
    # The grammar drops the base: 11_2 would equal 11.
    return re.sub(r'[\s{}]', '', gold) == re.sub(r'[\s{}]', '', pred)
  if _is_relation(gold) or _is_relation(pred):
    return algebra.same_relation(gold, pred)
  if '\\ldots' in gold or '\\ldots' in pred:
    return _same_with_gaps(gold, pred, conventions)
  for text in (gold, pred):
    if '\\text' in text or _DIGITS_APART.search(text):
      raise algebra.UnparseableError(f'words or digits apart in {text[:80]!r}')
  parsed = algebra.parse(gold), algebra.parse(pred)
  if all(map(algebra.is_scalar, parsed)):
    places = [_last_place(*n, conventions) if n else 0 for n in numbers]
    return algebra.same_at_points(*parsed, *places)
  return algebra.same_relation(gold, pred)


def _same_with_gaps(gold: str, pred: str, conventions: Conventions) -> bool:
  r"""Whether what stands around each `\ldots` is the same, term by term.

  The terms that are left out follow those that are written: `1+3+\ldots` is
  not `2+2+\ldots`.
  """
  golds, preds = (
    [_STRETCH.fullmatch(part).groups() for part in text.split('\\ldots')]
    for text in (gold, pred)
  )
  return len(golds) == len(preds) and all(
    (g[0], g[2]) == (p[0], p[2])
    and (
      _squeezed(g[1]) == _squeezed(p[1]) or _same_terms(g[1], p[1], conventions)
    )
    for g, p in zip(golds, preds)
  )


def _same_terms(gold: str, pred: str, conventions: Conventions) -> bool:
  golds, preds = answer_structure.terms(gold), answer_structure.terms(pred)
  return len(golds) == len(preds) and _same_in_any_order(
    golds, preds, conventions
  )


def _primes(text: str) -> int:
  return text.count("'") + text.count('\\prime')


def _same_number(gold, pred, conventions: Conventions) -> bool:
  (left, left_digits), (right, right_digits) = gold, pred
  if left == right:
    return True
  # Two decimals have to be equal; a long one may stand for an exact value.
  if (left_digits is None) == (right_digits is None):
    return False
  if left_digits is None:
    return algebra.rounds_to(left, right, _last_place(*pred, conventions))
  return algebra.rounds_to(right, left, _last_place(*gold, conventions))


def _last_place(
  value, digits: int | None, conventions: Conventions
) -> fractions.Fraction:
  """Value of the last digit's place of a long decimal, 0 for other numbers."""
  if not digits or digits < conventions.decimal_digits:
    return fractions.Fraction(0)
  exponent = (
    decimal.Decimal(value.numerator) / decimal.Decimal(value.denominator)
  ).adjusted()
  return fractions.Fraction(10) ** (exponent - digits + 1)


def _has_base(text: str) -> bool:
  return bool(
    re.search(r'[0-9A-Fa-f]\s*_\s*\{?\s*\w+', text)
  ) and not re.search(r'\\log|[A-Za-z]\s*_', text)


def _is_equation(text: str) -> bool:
  return bool(re.search(r'(?<![<>!:])=(?!=)', text)) and '\\begin' not in text


def _is_relation(text: str) -> bool:
  return bool(
    re.search(
      r'[<>=]|\\(?:[lg]eq?|[lg]t|neq?|cup|cap|in|setminus)(?![a-z])', text
    )
  )
