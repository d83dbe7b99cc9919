"""Difficulty of a problem: a column of its data set, or a derived measure."""

from collections.abc import Callable, Mapping
from typing import Any

from score_jax import types


def longest_carry(problem: types.Problem) -> int:
  """Length of the longest carry chain of a sum, in columns.

  A column starts a carry where its digits add up to 10 or more and passes one
  on where they add up to 9: 0 for sums without a carry, 1 where every carry
  ends in the next column.
  """
  a, b = int(problem.columns['a']), int(problem.columns['b'])
  longest = current = 0
  while a or b:
    column = a % 10 + b % 10
    if column >= 10:
      current = 1
    elif column == 9 and current:
      current += 1
    else:
      current = 0
    longest = max(longest, current)
    a, b = a // 10, b // 10
  return longest


# Computed where a data set has no such column.
DERIVED: Mapping[str, Callable[[types.Problem], Any]] = {
  'longest_carry': longest_carry,
  'question_length': lambda problem: len(problem.question),
}


def measure(problem: types.Problem, name: str) -> Any:
  """A problem's column, or the derived measure of that name.

  Raises:
    ValueError: the problem has neither.
  """
  if name in problem.columns:
    return problem.columns[name]
  try:
    return DERIVED[name](problem)
  except KeyError:
    raise ValueError(
      f'problem {problem.id} has no column {name!r}; it has: '
      f'{", ".join(sorted({*problem.columns, *DERIVED}))}'
    ) from None
