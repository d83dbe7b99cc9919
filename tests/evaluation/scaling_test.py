"""Inference scaling: budgets, vote sets and what a correction is worth."""

import itertools

import numpy as np
import pytest

from score_jax.evaluation import scaling, voting


def sample(seed=0, problems=200, episodes=32, first=0.4, second=0.6):
  """Answers that are right (key 0) at these rates, else spread over three."""
  rng = np.random.default_rng(seed)
  shape = (problems, episodes)
  turns = [
    np.where(rng.random(shape) < rate, 0, rng.integers(1, 4, shape))
    for rate in (first, second)
  ]
  keys = np.stack(turns, axis=2)
  return keys.tolist(), keys == 0


def test_budgets_are_spent_as_said():
  # One problem, four episodes; right is 'r'. Parallel, budget 4: r, x, x, y
  # gives x. Corrected, budget 4: two episodes' second attempts; each of the 12
  # ordered pairs of (r, y, r, r) is right unless y comes first or (no tie of
  # one vote each is broken by order) y ... so: r first 9 of 12.
  keys = [[['r', 'r'], ['x', 'y'], ['x', 'r'], ['y', 'r']]]
  correct = np.array([[[k == 'r' for k in row] for row in keys[0]]])
  result = scaling.inference_scaling(keys, correct, budgets=(2, 4), draws=3000)
  assert result['budgets'] == [2, 4]
  assert result['parallel'][1] == 0.0
  # Budget 2, parallel: two firsts, the first of the pair decides: 1/4.
  assert result['parallel'][0] == pytest.approx(1 / 4, abs=0.03)
  # Budget 2, corrected: one second attempt: 3/4.
  assert result['corrected'][0] == pytest.approx(3 / 4, abs=0.03)
  assert result['corrected'][1] == pytest.approx(9 / 12, abs=0.03)
  # Both attempts vote, K = 1: a tie keeps the first attempt.
  both = scaling.inference_scaling(
    keys, correct, budgets=(2,), vote='all', draws=3000
  )
  assert both['corrected'][0] == pytest.approx(1 / 4, abs=0.03)
  orders = itertools.permutations(range(4), 2)
  expected = np.mean([voting._is_right(keys[0], correct[0], list(o))
                      for o in orders])  # fmt: skip
  both = scaling.inference_scaling(
    keys, correct, budgets=(4,), vote='all', draws=3000
  )
  assert both['corrected'][0] == pytest.approx(expected, abs=0.03)


def test_better_second_attempts_win_at_every_budget():
  keys, correct = sample()
  result = scaling.inference_scaling(keys, correct, draws=10)
  for name in ('parallel', 'corrected'):
    # Votes help here: right answers agree, wrong ones are spread.
    assert result[name][-1] > result[name][0] + 0.2
    for mean, (low, high) in zip(result[name], result[f'{name}_ci95']):
      assert low <= mean <= high
  differences = np.subtract(result['corrected'], result['parallel'])
  np.testing.assert_allclose(result['gain'], differences, atol=1e-12)
  assert result['gain'][0] > 0.1


def test_intervals_of_the_gain_are_paired():
  # Easy and hard problems in halves: accuracies vary by 0.5 from problem to
  # problem, their differences hardly.
  rng = np.random.default_rng(0)
  is_easy = np.arange(400) % 2 == 0
  keys = np.where(
    is_easy[:, None, None], 0, 1 + rng.integers(0, 3, (400, 4, 2))
  )
  result = scaling.inference_scaling(keys.tolist(), keys == 0, budgets=(4,))
  ((low, high),) = result['parallel_ci95']
  assert high - low > 0.08
  assert result['gain_ci95'] == [[0.0, 0.0]]


@pytest.mark.parametrize('budget', [3, 34, 0])
def test_impossible_budgets_are_rejected(budget):
  keys, correct = sample(problems=2)
  with pytest.raises(ValueError, match=rf'\[{budget}\] are not even numbers'):
    scaling.inference_scaling(keys, correct, budgets=(budget,))
