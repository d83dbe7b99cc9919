"""Intervals cover and tests keep their level, by simulation."""

import numpy as np
import pytest

from score_jax.evaluation import bootstrap, metrics

# Probabilities of (wrong, wrong), (wrong, right), (right, wrong), (right,
# right): accuracies 0.5 and 0.6, i_to_c 0.15, c_to_i 0.05.
OUTCOMES = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], bool)
PROBABILITIES = np.array([0.35, 0.15, 0.05, 0.45])
TRUTH = {
  'acc_t1': 0.5,
  'acc_t2': 0.6,
  'delta': 0.1,
  'i_to_c': 0.15,
  'c_to_i': 0.05,
}


def draw(rng, problems=400):
  return OUTCOMES[rng.choice(4, problems, p=PROBABILITIES)]


def test_intervals_cover():
  # 1000 data sets: the standard error of a 95 % coverage is 0.7 points.
  rng = np.random.default_rng(0)
  covered = dict.fromkeys(TRUTH, 0)
  for i in range(1000):
    summary = metrics.policy_summary(draw(rng), seed=i, resamples=1000)
    for name, truth in TRUTH.items():
      low, high = summary[f'{name}_ci95']
      covered[name] += low <= truth <= high
  for name, count in covered.items():
    assert 0.93 <= count / 1000 <= 0.97, name


def test_interval_is_that_of_the_normal_approximation():
  # Delta has variance 0.15 + 0.05 - 0.1^2 = 0.19 a problem; with 10,000
  # problems its interval is about 1.96 * sqrt(0.19 / 10000) = 0.00854 wide to
  # each side. Were the turns resampled apart, it would be 0.0137.
  correct = draw(np.random.default_rng(1), 10_000)
  summary = metrics.policy_summary(correct)
  low, high = summary['delta_ci95']
  assert (high - low) / 2 == pytest.approx(0.00854, rel=0.04)
  assert (low + high) / 2 == pytest.approx(summary['delta'], abs=3e-4)


def test_distinct_rows_and_chunks_draw_from_all_problems(monkeypatch):
  # Numbers that are all different take the general path, here in chunks of
  # four resamples: still 1.96 * standard error to each side of the mean.
  monkeypatch.setattr(bootstrap, '_CHUNK', 1000)
  values = np.random.default_rng(2).normal(size=(250, 1))
  ((low, high),) = bootstrap.intervals(values, resamples=2001)
  error = values.std() / np.sqrt(250)
  assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
  assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


class TestPairedTest:
  def test_by_hand(self):
    # 30 of 100 problems gained, 10 lost: +0.2, about
    # sqrt((0.4 - 0.04) / 100) = 0.06 of standard error.
    first = np.array([0] * 30 + [1] * 10 + [1] * 60)
    second = np.array([1] * 30 + [0] * 10 + [1] * 60)
    result = bootstrap.paired_test(first, second)
    assert result['difference'] == pytest.approx(0.2)
    low, high = result['difference_ci95']
    assert (low, high) == pytest.approx((0.0824, 0.3176), abs=0.02)
    # z = 0.2 / 0.06 = 3.33: p = 0.0009.
    assert 1e-4 < result['p_value'] < 4e-3

  def test_swapping_the_policies_swaps_the_sign(self):
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 50)) < 0.5
    there = bootstrap.paired_test(first, second)
    back = bootstrap.paired_test(second, first)
    assert back['difference'] == -there['difference']
    assert back['p_value'] == pytest.approx(there['p_value'], abs=0.05)

  def test_equal_policies(self):
    outcome = np.random.default_rng(0).random(50) < 0.5
    result = bootstrap.paired_test(outcome, outcome)
    assert result['p_value'] == 1.0
    assert result['difference_ci95'] == [0.0, 0.0]

  def test_keeps_its_level_and_has_power(self):
    # 400 pairs of equal policies: 5 % of p-values below 0.05, with a standard
    # error of 1.1 points. Policies 10 points apart, as delta above: z about
    # 0.1 / sqrt(0.19 / 400) = 4.6, so nearly always found.
    rng = np.random.default_rng(1)
    rejected = found = 0
    for i in range(400):
      correct = draw(rng)
      equal = rng.random((400, 2)) < 0.4
      options = {'seed': i, 'resamples': 1000}
      null = bootstrap.paired_test(equal[:, 0], equal[:, 1], **options)
      real = bootstrap.paired_test(correct[:, 0], correct[:, 1], **options)
      rejected += null['p_value'] < 0.05
      found += real['p_value'] < 0.05
    assert 0.02 <= rejected / 400 <= 0.085
    assert found / 400 > 0.98

  def test_other_problems_are_rejected(self):
    with pytest.raises(ValueError, match='3 problems against 2'):
      bootstrap.paired_test(np.zeros(3), np.zeros(2))
