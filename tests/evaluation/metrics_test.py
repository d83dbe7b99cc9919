"""The paper's metrics by hand and against slow definitions."""

import itertools
import json

import numpy as np
import pytest

from score_jax.evaluation import metrics

# Ten problems: 4 right twice, 3 corrected, 1 spoilt, 2 wrong twice.
CORRECT = np.array([[1, 1]] * 4 + [[0, 1]] * 3 + [[1, 0]] + [[0, 0]] * 2, bool)


class TestTurnMetrics:
  def test_by_hand(self):
    # Right at first 4 + 1, at last 4 + 3, of ten.
    assert metrics.turn_metrics(CORRECT) == pytest.approx(
      {'acc_t1': 0.5, 'acc_t2': 0.7, 'delta': 0.2, 'i_to_c': 0.3, 'c_to_i': 0.1}
    )

  def test_three_turns(self):
    # Third attempts spoil one of the corrected and save one of the wrong.
    third = CORRECT[:, 1].copy()
    third[[4, 9]] = ~third[[4, 9]]
    result = metrics.turn_metrics(np.column_stack([CORRECT, third]))
    assert result['acc_t3'] == 0.7
    assert result['delta'] == pytest.approx(0.2)  # still turn 1 to turn 2
    assert result['delta_t2_t3'] == 0
    assert result['i_to_c_t2_t3'] == result['c_to_i_t2_t3'] == 0.1
    # First to last, skipping the second: only the saved and three corrected,
    # less the one spoilt again, against the one spoilt at first.
    skipping = metrics.transitions(np.column_stack([CORRECT, third]), 1, 3)
    assert skipping['i_to_c'].sum() == 3
    assert skipping['c_to_i'].sum() == 1

  def test_one_turn(self):
    assert metrics.turn_metrics(CORRECT[:, :1]) == {'acc_t1': 0.5}

  def test_identities(self):
    correct = np.random.default_rng(0).random((100, 2)) < 0.4
    m = metrics.turn_metrics(correct)
    assert m['delta'] == pytest.approx(m['acc_t2'] - m['acc_t1'])
    assert m['delta'] == pytest.approx(m['i_to_c'] - m['c_to_i'])

  @pytest.mark.parametrize(
    'correct',
    [
      np.zeros((0, 2), bool),
      np.zeros((3, 0), bool),
      np.zeros(3, bool),
      np.zeros((3, 2), int),
    ],
  )
  def test_refuses_what_it_cannot_mean(self, correct):
    with pytest.raises(ValueError, match='correct must be bool'):
      metrics.turn_metrics(correct)


class TestPolicySummary:
  def test_keys_are_those_of_results_json(self):
    summary = metrics.policy_summary(CORRECT)
    names = ['acc_t1', 'acc_t2', 'delta', 'i_to_c', 'c_to_i']
    assert set(summary) == {*names, *[f'{n}_ci95' for n in names], 'problems'}
    assert summary['problems'] == 10
    assert json.loads(json.dumps(summary)) == summary
    for name in names:
      low, high = summary[f'{name}_ci95']
      assert low < summary[name] < high

  def test_three_turns_have_more_keys(self):
    summary = metrics.policy_summary(np.ones((4, 3), bool))
    assert summary['acc_t3'] == 1.0
    assert 'acc_t3_ci95' in summary
    assert 'c_to_i_t2_t3_ci95' in summary

  def test_depends_on_the_seed_and_not_on_the_order(self):
    correct = np.random.default_rng(0).random((200, 2)) < 0.4
    shuffled = np.random.default_rng(1).permutation(correct)
    summary = metrics.policy_summary(correct, resamples=500)
    assert summary == metrics.policy_summary(shuffled, resamples=500)
    other = metrics.policy_summary(correct, resamples=500, seed=1)
    assert other['delta_ci95'] != summary['delta_ci95']


class TestZeroSpread:
  def test_by_hand(self):
    # Two problems of three samples. Turn 1: equal; not. Turn 2: equal; equal.
    score = [[1.0, 0], [1, 0], [1, 0], [0, 1], [0, 1], [1, 1]]
    np.testing.assert_array_equal(
      metrics.zero_spread(score, 3), [[True, True], [False, True]]
    )

  def test_ungraded_samples_do_not_count(self):
    score = np.array([[1.0], [np.nan], [1], [0], [1], [1]])
    # Problem 1 is equal without its second sample; problem 2 differs.
    graded = np.array([[1], [0], [1], [1], [1], [1]], bool)
    assert metrics.zero_spread(score, 3, graded).tolist() == [[True], [False]]
    # With one graded sample, or none, there is no spread either.
    graded = np.array([[1], [0], [0], [0], [0], [0]], bool)
    assert metrics.zero_spread(score, 3, graded).all()

  def test_broken_groups_are_rejected(self):
    with pytest.raises(ValueError, match='6'):
      metrics.zero_spread(np.zeros((6, 1)), 4)


def slow_edit_distance(first, second):
  """The textbook table, insertions and deletions only."""
  table = np.zeros((len(first) + 1, len(second) + 1), int)
  table[:, 0] = np.arange(len(first) + 1)
  table[0] = np.arange(len(second) + 1)
  for i, j in itertools.product(range(len(first)), range(len(second))):
    if first[i] == second[j]:
      table[i + 1, j + 1] = table[i, j]
    else:
      table[i + 1, j + 1] = 1 + min(table[i, j + 1], table[i + 1, j])
  return table[-1, -1]


class TestEditDistance:
  @pytest.mark.parametrize(
    ('first', 'second', 'distance', 'ratio'),
    [
      ('', '', 0, 0.0),
      ('abc', 'abc', 0, 0.0),
      ('abc', '', 3, 1.0),
      ('', 'ab', 2, 1.0),
      ('abc', 'xyz', 6, 1.0),
      # One substitution is a deletion and an insertion.
      ('abc', 'axc', 2, 2 / 6),
      # kitten -> sitting: common subsequence ittn.
      ('kitten', 'sitting', 5, 5 / 13),
      ([1, 2, 3], [2, 3, 4], 2, 2 / 6),
    ],
  )
  def test_by_hand(self, first, second, distance, ratio):
    assert metrics.edit_distance(first, second) == distance
    assert metrics.edit_distance_ratio(first, second) == pytest.approx(ratio)

  @pytest.mark.parametrize('seed', range(20))
  def test_against_the_table(self, seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 150, 2)  # over one machine word, too
    first, second = (list(rng.integers(0, 4, n)) for n in lengths)
    expected = slow_edit_distance(first, second)
    assert metrics.edit_distance(first, second) == expected
    assert metrics.edit_distance(second, first) == expected

  def test_text_metrics_by_hand(self):
    # Ratios 0, 2/6 and 1; one of three pairs identical.
    result = metrics.text_metrics(['abc', 'abc', 'a'], ['abc', 'axc', 'b'])
    assert result == pytest.approx(
      {'frac_identical': 1 / 3, 'edit_distance_ratio': (1 / 3 + 1) / 3}
    )

  def test_text_metrics_of_nothing(self):
    with pytest.raises(ValueError, match='no attempts'):
      metrics.text_metrics([], [])
