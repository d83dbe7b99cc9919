"""Results by difficulty: the paper's numbers for each group of problems."""

from collections.abc import Mapping, Sequence
import numbers
from typing import Any

import numpy as np

from score_jax.evaluation import metrics

_MOST_VALUES = 8
_RANGES = 5


def make_groups(values: Sequence[Any]) -> dict[str, np.ndarray]:
  """Groups of problems by the value of a column, in order of the values.

  Up to eight distinct values are a group each; more numbers than that are split
  into five ranges with about equally many problems.

  Args:
    values: one for each of N problems.

  Returns:
    The problems of each group, bool [N], by the group's name.

  Raises:
    ValueError: there are more than eight distinct values that are not numbers.
  """
  distinct = sorted(set(values), key=_order)
  if len(distinct) <= _MOST_VALUES:
    return {
      _text(value): np.array([v == value for v in values]) for value in distinct
    }
  if not all(map(_is_number, distinct)):
    raise ValueError(
      f'{len(distinct)} different values, such as {distinct[0]!r}, are too '
      'many for groups; choose a column of numbers, or one of few values'
    )
  numbers_ = np.array(values, float)
  lasts = [i * len(numbers_) // _RANGES - 1 for i in range(1, _RANGES)]
  edges = np.unique(np.sort(numbers_)[lasts])
  # An edge belongs to the range below it.
  ranges = np.searchsorted(edges, numbers_, side='left')
  members = [ranges == number for number in np.unique(ranges)]
  return {_range(numbers_[is_member]): is_member for is_member in members}


def by_group(
  groups: Mapping[str, np.ndarray],
  correct: np.ndarray,
  *,
  samples_per_problem: int = 1,
  seed: int = 0,
) -> dict[str, dict[str, Any]]:
  """A policy summary of each group of problems.

  Args:
    groups: from `make_groups`, of N problems.
    correct: bool [N * G, K].
    samples_per_problem: G.
    seed: of the bootstrap.
  """
  return {
    name: metrics.policy_summary(
      correct[np.repeat(is_member, samples_per_problem)],
      samples_per_problem=samples_per_problem,
      seed=seed,
    )
    for name, is_member in groups.items()
  }


def _order(value: Any) -> tuple:
  """Numbers by size, then everything else by its text."""
  is_text = not _is_number(value)
  return (is_text, str(value) if is_text else value)


def _is_number(value: Any) -> bool:
  return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _text(value: Any) -> str:
  return f'{value:g}' if isinstance(value, float) else str(value)


def _range(members: np.ndarray) -> str:
  low, high = members.min(), members.max()
  return f'{low:g}' if low == high else f'{low:g} to {high:g}'
