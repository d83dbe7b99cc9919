"""Grading that can neither fail nor take long, and so needs no workers.

`grade_text` is the verifier of arithmetic, `grade_number` that of GSM8K, and
`grade_bare_number` that of word problems.
"""

from collections.abc import Callable, Sequence
import fractions
import re
import time

from score_jax import types
from score_jax.grading import final_answer, quantities

_THOUSANDS = re.compile(r'(?<![\w.])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])')
_NUMBER = re.compile(
  r'(?<![\w./])(?:[-+\u2212]\s*)?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)'
  r'(?:\s*/\s*[0-9]+)?(?![0-9]|\.[0-9])'
)
_ARITHMETIC = re.compile(r'[0-9]\s*(?:[*^!_]|\\(?:times|cdot)|[eE][0-9])')
_FRACTION = re.compile(r'\\[dt]?frac\s*\{(\d{1,30})\}\s*\{(\d{1,30})\}')
_LONGEST_ANSWER = 500


class DirectGrader:
  """Grades in this process by a function of reference and attempt."""

  def __init__(
    self, grade_answer: Callable[[str, str], tuple[types.VerdictLabel, str]]
  ):
    """Takes (reference, attempt's text) -> (label, reason)."""
    self._grade_answer = grade_answer

  def grade(
    self,
    problems: Sequence[types.Problem],
    attempts: Sequence[types.Attempt],
  ) -> list[types.Verdict]:
    """One verdict for each (problem, attempt); score 1 or 0."""
    verdicts = []
    for problem, attempt in zip(problems, attempts, strict=True):
      start = time.perf_counter()
      label, reason = self._grade_answer(problem.reference, attempt.text)
      seconds = time.perf_counter() - start
      score = float(label == 'correct')
      verdicts.append(types.Verdict(label, score, seconds, reason))
    return verdicts

  def close(self) -> None:
    """Nothing to end."""


def grade_text(reference: str, text: str) -> tuple[types.VerdictLabel, str]:
  """(label, reason): correct if the attempt is the reference, to the letter."""
  return ('correct' if text.strip() == reference else 'wrong'), ''


def grade_number(reference: str, text: str) -> tuple[types.VerdictLabel, str]:
  """(label, reason): correct if the attempt ends on the reference number."""
  answer = final_answer.final_answer(text)
  if answer is None:
    return 'unparseable', 'the attempt states no final answer'
  number = parse_number(answer)
  if number is None:
    return 'unparseable', f'not one number: {answer[:80]!r}'
  if number == parse_number(reference):
    return 'correct', ''
  return 'wrong', f'{answer[:80]!r} is not {reference}'


def grade_bare_number(
  reference: str, text: str
) -> tuple[types.VerdictLabel, str]:
  """(label, reason): correct if the attempt states the reference number."""
  number = parse_number(text)
  if number is None:
    return 'unparseable', f'not one number: {text.strip()[:80]!r}'
  if number == parse_number(reference):
    return 'correct', ''
  return 'wrong', f'{text.strip()[:80]!r} is not {reference}'


def parse_number(answer: str) -> fractions.Fraction | None:
  """The one number that `answer` states, exactly.

  Ignores currency, units, thousands separators, '%', and what stands before an
  equals sign. None where there is no number, or several different ones.
  """
  if len(answer) > _LONGEST_ANSWER:
    return None
  answer = answer.rpartition('=')[2].replace('\\$', ' ').replace('$', ' ')
  answer = re.sub(r'\\(?:text|mathrm|textbf|mathbf)\{', ' ', answer)
  # The exponent of a unit, as in cm^2, is no number of its own.
  answer = re.sub(r'(?<=[A-Za-z}])\s*\^\{?[23]\}?', '', answer)
  answer = _FRACTION.sub(r' \1/\2 ', answer)
  answer = quantities.join_digits(answer)
  # Here a comma never is a tuple's.
  answer = _THOUSANDS.sub(lambda m: m.group().replace(',', ''), answer)
  if _ARITHMETIC.search(answer):
    return None
  found = {_fraction(match.group()) for match in _NUMBER.finditer(answer)}
  return found.pop() if len(found) == 1 else None


def _fraction(text: str) -> fractions.Fraction | None:
  text = ''.join(text.split()).replace('\u2212', '-')
  try:
    return fractions.Fraction(text)
  except ZeroDivisionError:
    return None
