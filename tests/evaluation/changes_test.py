"""Transitions, edit ratios and changed answers, counted by hand."""

import numpy as np
import pytest

from score_jax.evaluation import changes

# Three right twice, two corrected, one spoilt, four wrong twice.
CORRECT = np.array([[1, 1]] * 3 + [[0, 1]] * 2 + [[1, 0]] + [[0, 0]] * 4, bool)


def test_transition_counts():
  assert changes.transition_counts(CORRECT) == {
    'right_right': 3,
    'wrong_right': 2,
    'right_wrong': 1,
    'wrong_wrong': 4,
  }


def test_transition_counts_of_other_turns():
  correct = np.concatenate([CORRECT, CORRECT[:, :1]], axis=1)
  assert changes.transition_counts(correct, 2, 3) == {
    'right_right': 3,
    'wrong_right': 1,
    'right_wrong': 2,
    'wrong_wrong': 4,
  }


def test_rates_by_hand():
  rates = changes.conditional_rates(CORRECT)
  # Two of the six that were wrong, one of the four that were right.
  assert rates['correction_rate'] == pytest.approx(2 / 6)
  assert rates['spoiling_rate'] == pytest.approx(1 / 4)
  low, high = rates['correction_rate_ci95']
  assert 0 <= low < 2 / 6 < high <= 1


def test_rates_where_nothing_could_be_spoilt():
  # Given first attempts that are all wrong, as of Pair-SFT's pairs.
  rates = changes.conditional_rates(CORRECT[~CORRECT[:, 0]])
  assert set(rates) == {'correction_rate', 'correction_rate_ci95'}


def test_rate_intervals_cover():
  # 400 data sets of 300 problems: of 40 % wrong ones, 30 % are corrected. The
  # standard error of a coverage of 95 % is 1.1 points.
  rng = np.random.default_rng(0)
  covered = 0
  for i in range(400):
    first = rng.random(300) < 0.6
    second = np.where(first, True, rng.random(300) < 0.3)
    correct = np.stack([first, second], axis=1)
    low, high = changes.conditional_rates(correct, seed=i, resamples=1000)[
      'correction_rate_ci95'
    ]
    covered += low <= 0.3 <= high
  assert 0.93 <= covered / 400 <= 0.97


def test_histogram_by_hand():
  # Ratios 0, 2/6 = 0.33, 1/2 and 1; the last bin holds its upper edge.
  firsts = ['abc', 'abc', 'abc', 'a']
  seconds = ['abc', 'axc', 'a', 'b']
  histogram = changes.edit_ratio_histogram(firsts, seconds, bins=4)
  assert histogram['edges'] == [0.0, 0.25, 0.5, 0.75, 1.0]
  assert histogram['counts'] == [1, 1, 1, 1]


def test_histogram_holds_every_pair():
  rng = np.random.default_rng(0)
  texts = [''.join(rng.choice(list('01'), 12)) for _ in range(100)]
  histogram = changes.edit_ratio_histogram(texts, texts[::-1])
  assert sum(histogram['counts']) == 100
  assert len(histogram['edges']) == len(histogram['counts']) + 1 == 21


def test_changed_answers():
  # Same; other; given up; found; never any.
  changed = changes.changed_answers(
    ['1', '1', '1', None, None], ['1', '2', None, '2', None]
  )
  assert changed.tolist() == [False, True, True, True, False]
