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
  # The last bin holds its upper edge; 0.25 belongs to the second.
  histogram = changes.ratio_histogram([0.0, 0.2, 0.25, 0.5, 1.0], bins=4)
  assert histogram == {
    'edges': [0.0, 0.25, 0.5, 0.75, 1.0],
    'counts': [2, 1, 1, 1],
  }


def test_histogram_holds_every_ratio():
  ratios = np.random.default_rng(0).random(1000).tolist() + [0.0, 1.0]
  histogram = changes.ratio_histogram(ratios)
  assert sum(histogram['counts']) == 1002
  assert len(histogram['edges']) == len(histogram['counts']) + 1 == 21


def test_changed_answers():
  # Same; other; given up; found; never any.
  changed = changes.changed_answers(
    ['1', '1', '1', None, None], ['1', '2', None, '2', None]
  )
  assert changed.tolist() == [False, True, True, True, False]


def test_summary_by_hand():
  # Two samples of each of two problems: kept; respelled; corrected; given up.
  texts = [('1', '1'), ('1', '01'), ('2', '1'), ('3', 'x')]
  keys = [(1, 1), (1, 1), (2, 1), (3, None)]
  correct = np.array([[1, 1], [1, 1], [0, 1], [0, 0]], bool)
  found = changes.summarize(texts, keys, correct, samples_per_problem=2)
  assert found['transitions'] == changes.transition_counts(correct)
  assert found['changed_answer'] == 0.5
  assert found['frac_identical'] == 0.25
  # Ratios 0, 1/3 (one insertion over three characters), 1 and 1.
  assert found['edit_distance_ratio'] == pytest.approx((1 / 3 + 2) / 4)
  assert found['edit_ratio_histogram']['counts'][0] == 1
  assert found['edit_ratio_histogram']['counts'][-1] == 2
  # The first problem changed nothing and the second everything, so that the
  # share is 0, 1/2 or 1 when problems are drawn.
  assert found['changed_answer_ci95'] == [0.0, 1.0]
  assert found['correction_rate'] == 0.5
  # Only the second problem was ever wrong: no draw has another rate.
  assert found['correction_rate_ci95'] == [0.5, 0.5]
  assert found['spoiling_rate'] == 0.0
