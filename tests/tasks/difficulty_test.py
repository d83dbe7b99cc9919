"""Carries by hand, and columns of the data set before derived ones."""

import pytest

from score_jax import types
from score_jax.tasks import arithmetic, difficulty


@pytest.mark.parametrize(
  ('a', 'b', 'longest'),
  [
    (0, 0, 0),
    (12, 34, 0),
    (5, 5, 1),
    # 9 + 0 passes the carry of 5 + 5 on; then 1 + 1 ends it.
    (195, 105, 2),
    (999, 1, 3),
    # A column of 9 without a carry from the right passes nothing on.
    (90, 9, 0),
    # Each column starts its own carry.
    (555, 555, 1),
    # 3 + 4 ends the chain, and the 9 + 0 beyond has no carry to pass on.
    (9395, 405, 2),
  ],
)
def test_longest_carry(a, b, longest):
  problem = types.Problem('1', 'arithmetic', '', '', {'a': a, 'b': b})
  assert difficulty.measure(problem, 'longest_carry') == longest


def test_the_embedded_tasks_problems_have_chains():
  task = arithmetic.load(digits=12, chain=0.75, num_train=1, num_test=200)
  lengths = [difficulty.measure(p, 'longest_carry') for p in task.test]
  assert min(lengths) <= 1
  assert max(lengths) >= 8


def test_a_column_comes_first():
  problem = types.Problem('1', 'math', 'abc', '', {'level': 4})
  assert difficulty.measure(problem, 'level') == 4
  assert difficulty.measure(problem, 'question_length') == 3
  named = types.Problem('1', 'math', 'abc', '', {'question_length': 'long'})
  assert difficulty.measure(named, 'question_length') == 'long'


def test_unknown_columns_are_rejected():
  problem = types.Problem('7', 'math', 'abc', '', {'level': 4})
  with pytest.raises(ValueError, match='levl.*level, longest_carry'):
    difficulty.measure(problem, 'levl')
  with pytest.raises(ValueError, match='longest_carry'):
    difficulty.measure(problem, 'longest_carry')
