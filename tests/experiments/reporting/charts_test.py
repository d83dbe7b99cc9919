"""The pictures show the numbers that they are given."""

import numpy as np
import pytest

from experiments.reporting import charts
from score_jax.evaluation import changes

COUNTS = {
  'Base': {
    'right_right': 40, 'wrong_right': 5, 'right_wrong': 15, 'wrong_wrong': 40,
  },
  'SCoRe': {
    'right_right': 58, 'wrong_right': 6, 'right_wrong': 2, 'wrong_wrong': 34,
  },
}  # fmt: skip


def summary(**accuracies):
  intervals = {
    f'{name}_ci95': [value - 0.1, value + 0.1]
    for name, value in accuracies.items()
  }
  return {**accuracies, **intervals, 'problems': 10}


def legend(axes):
  return [text.get_text() for text in axes.get_legend().get_texts()]


def test_transitions_fill_a_hundred_percent():
  (axes,) = charts.draw_transitions(COUNTS).axes
  widths = np.array([[bar.get_width() for bar in c] for c in axes.containers])
  np.testing.assert_allclose(widths.sum(axis=0), 100)
  np.testing.assert_allclose(widths[:, 0], [40, 5, 15, 40])
  ends = [c[1].get_x() + c[1].get_width() for c in axes.containers]
  np.testing.assert_allclose(ends, [58, 64, 66, 100])
  assert [t.get_text() for t in axes.get_yticklabels()] == ['Base', 'SCoRe']
  assert legend(axes) == ['right twice', 'corrected', 'spoilt', 'wrong twice']


def test_turns_from_first_to_last():
  policies = {
    'Base': [summary(acc_t1=0.5, acc_t2=0.4)],
    'Three turns': [
      summary(acc_t1=0.5, acc_t2=0.6, acc_t3=0.7),
      summary(acc_t1=0.6, acc_t2=0.6, acc_t3=0.9),
    ],
  }
  (axes,) = charts.draw_turns(policies).axes
  lines = [line.get_xydata().tolist() for line in axes.lines]
  np.testing.assert_allclose(lines, [[[50, 0], [40, 0]], [[55, 1], [80, 1]]])
  assert [t.get_text() for t in axes.get_yticklabels()] == list(policies)
  assert legend(axes) == ['first attempt', 'last attempt']
  # Two means each, and the two seeds of both ends of the second.
  assert [len(dots.get_offsets()) for dots in axes.collections] == [
    1, 1, 2, 1, 2, 1,
  ]  # fmt: skip


def test_densities_have_area_one():
  histogram = changes.ratio_histogram([0.0, 0.01, 0.5, 0.51, 1.0], bins=10)
  (axes,) = charts.draw_edit_ratios({'Base': histogram}).axes
  values, edges, _ = axes.patches[0].get_data()
  assert (values * np.diff(edges)).sum() == pytest.approx(1)
  assert values[0] == pytest.approx(2 / 5 / 0.1)


def test_attempts_of_one_run_and_of_seeds():
  one = [summary(acc_t1=0.2, acc_t2=0.4, acc_t3=0.5)]
  two = [
    summary(acc_t1=0.1, acc_t2=0.2, acc_t3=0.3),
    summary(acc_t1=0.3, acc_t2=0.4, acc_t3=0.5),
  ]
  (axes,) = charts.draw_attempts({'one': one, 'two': two}).axes
  lines = {line.get_label(): line.get_xydata() for line in axes.lines}
  np.testing.assert_allclose(lines['one'], [[1, 20], [2, 40], [3, 50]])
  np.testing.assert_allclose(lines['two'], [[1, 20], [2, 30], [3, 40]])
  assert len(axes.lines) == 4  # with each seed of the second
  assert len(axes.collections) == 1  # the interval of the first
  assert legend(axes) == ['one', 'two']


def test_scaling_stands_at_its_budgets():
  scaling = {
    'budgets': [2, 4], 'vote': 'last',
    'parallel': [0.1, 0.2], 'parallel_ci95': [[0.0, 0.2], [0.1, 0.3]],
    'corrected': [0.3, 0.4], 'corrected_ci95': [[0.2, 0.4], [0.3, 0.5]],
  }  # fmt: skip
  (axes,) = charts.draw_scaling(scaling).axes
  assert [t.get_text() for t in axes.get_xticklabels()] == ['2', '4']
  np.testing.assert_allclose(axes.lines[1].get_ydata(), [30, 40])
  assert legend(axes) == ['2K attempts', 'K attempts, corrected once']


def test_groups_have_a_bar_for_each_turn():
  groups = {
    'Level 1': summary(acc_t1=0.5, acc_t2=0.6),
    'Level 2': summary(acc_t1=0.2, acc_t2=0.1),
  }
  (axes,) = charts.draw_groups(groups, 'level').axes
  bars = [
    c for c in axes.containers if len(c) == 2 and hasattr(c[0], 'get_height')
  ]
  heights = [[bar.get_height() for bar in container] for container in bars]
  np.testing.assert_allclose(heights, [[50, 20], [60, 10]])
  labels = [t.get_text() for t in axes.get_xticklabels()]
  assert labels == ['Level 1\n(10)', 'Level 2\n(10)']
