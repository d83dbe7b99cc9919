"""Groups by difficulty: whose problem is where."""

import numpy as np
import pytest

from score_jax.evaluation import breakdown, metrics


def members(groups):
  return {name: np.flatnonzero(held).tolist() for name, held in groups.items()}


def test_few_values_are_groups_in_their_order():
  groups = breakdown.make_groups([3, 1, 10, 1, None, 3])
  assert members(groups) == {'1': [1, 3], '3': [0, 5], '10': [2], 'None': [4]}
  groups = breakdown.make_groups(['Level 2', 'Level 1', 'Level 2'])
  assert members(groups) == {'Level 1': [1], 'Level 2': [0, 2]}


def test_many_numbers_fall_into_ranges():
  values = np.random.default_rng(0).permutation(100)
  groups = breakdown.make_groups(values.tolist())
  assert list(groups) == [
    '0 to 19', '20 to 39', '40 to 59', '60 to 79', '80 to 99',
  ]  # fmt: skip
  assert [held.sum() for held in groups.values()] == [20] * 5
  for name, held in groups.items():
    low, high = map(int, name.split(' to '))
    assert all(low <= value <= high for value in values[held])


def test_ranges_do_not_split_equal_values():
  values = [0] * 90 + list(range(1, 14))
  groups = breakdown.make_groups(values)
  assert sum(held.sum() for held in groups.values()) == len(values)
  assert groups['0'].sum() == 90
  seen = [set(np.array(values)[held]) for held in groups.values()]
  assert sum(map(len, seen)) == len(set(values))


def test_many_words_are_rejected():
  with pytest.raises(ValueError, match='20 different values, such as .*x0'):
    breakdown.make_groups([f'x{i}' for i in range(20)])


def test_each_group_has_its_own_summary():
  groups = breakdown.make_groups([1, 2, 1])
  # Two samples of each problem.
  correct = np.array([[1, 1], [0, 1], [0, 0], [0, 0], [1, 1], [1, 0]], bool)
  found = breakdown.by_group(groups, correct, samples_per_problem=2)
  assert found['1'] == metrics.policy_summary(
    correct[[0, 1, 4, 5]], samples_per_problem=2
  )
  assert found['1']['acc_t1'] == 0.75
  assert found['2']['acc_t2'] == 0.0
  assert found['2']['problems'] == 1
