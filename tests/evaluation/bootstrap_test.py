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


def test_ratio_values_have_the_mean_and_the_spread_of_the_ratio():
  rng = np.random.default_rng(3)
  whole = (rng.random(2000) < 0.4).astype(float)
  part = whole * (rng.random(2000) < 0.3)
  values = bootstrap.ratio_values(part, whole)
  ratio, (low, high) = bootstrap.ratio(part, whole)
  assert values.mean() == pytest.approx(ratio)
  width = 2 * 1.96 * values.std() / np.sqrt(2000)
  assert width == pytest.approx(high - low, rel=0.05)


def draw_seeds(rng, seeds, seed_sd, problems=500):
  """Right or wrong, [S, M]: problems of all difficulties, mean 0.5."""
  effects = rng.normal(0, seed_sd, (seeds, 1))
  difficulty = rng.uniform(-0.3, 0.3, problems)
  chance = np.clip(0.5 + effects + difficulty, 0, 1)
  return (rng.random(chance.shape) < chance).astype(float)


class TestMarginOverSeeds:
  def test_by_hand(self):
    # Means 0.75 and 0.5: standard deviation 0.25 / sqrt(2), over sqrt(2) 0.125,
    # times t of one degree of freedom, 12.706. Deviations (-.75, .25, .25, .25)
    # and (-.5, -.5, .5, .5): covariance 0.5 / 3, of the mean a fourth.
    values = np.array([[0, 1, 1, 1], [0, 0, 1, 1]], float)
    expected = np.hypot(12.706 * 0.125, 1.96 * np.sqrt(0.5 / 3 / 4))
    margin = bootstrap.margin_over_seeds(values)
    assert margin == pytest.approx(expected, rel=1e-4)

  @pytest.mark.parametrize('seed_sd', [0.0, 0.03, 0.1])
  @pytest.mark.parametrize('seeds', [3, 5, 10])
  def test_covers(self, seeds, seed_sd):
    # 500 data sets: the standard error of a coverage of 95 % is 1 point.
    rng = np.random.default_rng(seeds)
    covered = pooled = 0
    for _ in range(500):
      values = draw_seeds(rng, seeds, seed_sd)
      error = abs(values.mean() - 0.5)
      covered += error <= bootstrap.margin_over_seeds(values)
      # All S * M values taken for independent ones.
      pooled += error <= 1.96 * values.std() / np.sqrt(values.size)
    assert 0.92 <= covered / 500 <= 0.995
    if seed_sd == 0.1:
      assert pooled / 500 < 0.4

  def test_more_seeds_leave_the_problems_error(self):
    # Ten equal seeds say no more about the problems than one: with a variance
    # of 0.25 a problem, 1.96 * sqrt(0.25 / 400).
    values = np.tile(np.arange(400) % 2, (10, 1)).astype(float)
    margin = bootstrap.margin_over_seeds(values)
    assert margin == pytest.approx(1.96 * 0.5 / 20, rel=2e-3)

  def test_differences_leave_out_what_methods_share(self):
    # Base policies differ by 20 points, what a method adds by 2, on average 5.
    rng = np.random.default_rng(0)
    covered, margins, apart = 0, [], []
    for _ in range(300):
      base = rng.uniform(0.3, 0.7, (5, 1)) + rng.uniform(-0.2, 0.2, 400)
      luck = rng.random((5, 400))
      added = 0.05 + rng.normal(0, 0.02, (5, 1))
      one, other = (luck < chance for chance in (base, base + added))
      gain = other.astype(float) - one
      margins.append(bootstrap.margin_over_seeds(gain))
      apart.append(bootstrap.margin_over_seeds(one.astype(float)))
      covered += abs(gain.mean() - 0.05) <= margins[-1]
    assert covered / 300 >= 0.92
    assert np.median(margins) < np.median(apart) / 4


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
