"""The table shows the numbers that it was given, all of them."""

import io

import numpy as np
import pytest
from rich import console

from experiments.reporting import tables
from score_jax.evaluation import changes

# The paper's base model on MATH, with intervals made up for the test.
BASE = {
  'acc_t1': 0.526,
  'acc_t1_ci95': [0.482, 0.57],
  'acc_t2': 0.414,
  'acc_t2_ci95': [0.37, 0.458],
  'delta': -0.112,
  'delta_ci95': [-0.15, -0.074],
  'i_to_c': 0.046,
  'i_to_c_ci95': [0.028, 0.066],
  'c_to_i': 0.158,
  'c_to_i_ci95': [0.126, 0.19],
  'problems': 500,
}
SCORE = BASE | {'acc_t2': 0.644, 'delta': 0.044, 'delta_ci95': [0.02, 0.068]}


def printed(summaries, width=80, **options):
  stream = io.StringIO()
  console.Console(file=stream, width=width).print(
    tables.console_table(summaries, **options)
  )
  return stream.getvalue()


def test_markdown_by_hand():
  names = ['acc_t1', 'delta']
  seeds = [{'acc_t1': 0.5, 'delta': 0.1}, {'acc_t1': 0.6, 'delta': 0.1}]
  policies = {'Base': BASE, 'SCoRe': tables.pool(seeds), 'x': {}}
  table = tables.metric_table(policies, names)
  # Two values a and b: mean (a + b) / 2, standard deviation |a - b| / sqrt 2.
  assert table.markdown() == (
    '| Policy | Accuracy@t1 | Δ(t1,t2) |\n'
    '| --- | ---: | ---: |\n'
    '| Base | 52.6 48.2, 57.0 | -11.2 -15.0, -7.4 |\n'
    '| SCoRe | 55.0 ±7.1 | +10.0 ±0.0 |\n'
    '| x | - | - |\n'
  )


def test_rewards_by_hand():
  turns = {f'reward_t{k}': float(k) for k in range(1, 11)}
  table = tables.rewards({'Base': turns})
  assert table.headings == ['Policy', *[f'Reward@t{k}' for k in range(1, 11)]]
  assert table.rows == [[('Base', ''), *[(str(k), '') for k in range(1, 11)]]]
  seeds = [{'reward_t1': 2.5, 'reward_t2': -1.0}, {'reward_t1': 3.5}]
  # Two values a and b: mean (a + b) / 2, standard deviation |a - b| / sqrt 2.
  table = tables.rewards({'x': tables.pool(seeds), 'y': BASE})
  assert table.rows[0][1:] == [('3', '±0.707'), ('-1', '')]
  assert table.rows[1][1:] == [tables.MISSING] * 2
  assert tables.rewards({'Base': BASE}) is None
  assert tables.columns([BASE | turns]) == tables.columns([BASE])


class TestPool:
  def test_one_record_stays_as_it_is(self):
    assert tables.pool([BASE]) == BASE
    assert tables.pool([]) == {}

  def test_of_the_problems_that_all_seeds_have(self):
    records = [
      {'acc_t1': 2 / 3, 'delta': -0.5, 'problems': 3, 'ungraded': 0},
      {'acc_t1': 0.5, 'delta': -0.7, 'problems': 2, 'ungraded': 1},
    ]
    values = [
      {'acc_t1': {'c': 1.0, 'a': 0.0, 'b': 1.0}},
      {'acc_t1': {'a': 0.0, 'b': 1.0}},
    ]
    pooled = tables.pool(records, values)
    assert pooled['acc_t1'] == pytest.approx(7 / 12)
    assert pooled['acc_t1_sd'] == pytest.approx(1 / 6 / 2**0.5)
    # Equal at a and b: seeds add no error; covariance 0.5 over 2 problems, so
    # that 7 / 12 - 0.98 and 7 / 12 + 0.98 are cut to what there can be.
    assert pooled['acc_t1_ci95'] == [0.0, 1.0]
    # Counts are of one seed's problems, and without values nothing is known.
    assert pooled['problems'] == 3
    assert 'ungraded' not in pooled
    assert 'delta_ci95' not in pooled
    assert tables.cell('delta', pooled).note == '±14.1'

  def test_an_interval_holds_the_seeds_that_it_is_of(self):
    # Three base policies: of 180, 808 and 292 right first attempts at 2,000
    # problems 14, 152 and 32 are spoilt, 8, 19 and 11 %. Taken for 6,000
    # problems of one policy, [13.5, 17.5] would hold none of them.
    seeds = []
    for right, spoilt in ((180, 14), (808, 152), (292, 32)):
      first = np.arange(2000) < right
      seeds.append(np.stack([first, first & (np.arange(2000) >= spoilt)], 1))
    records = [changes.conditional_rates(correct) for correct in seeds]
    rates = [record['spoiling_rate'] for record in records]
    together = changes.conditional_rates(np.concatenate(seeds))
    low, high = together['spoiling_rate_ci95']
    assert not any(low <= rate <= high for rate in rates)
    values = [
      {
        name: dict(enumerate(column))
        for name, column in changes.problem_columns(
          [('', '')] * 2000, [(None, None)] * 2000, correct
        ).items()
      }
      for correct in seeds
    ]
    pooled = tables.pool(records, values)
    low, high = pooled['spoiling_rate_ci95']
    assert all(low <= rate <= high for rate in rates)
    assert pooled['spoiling_rate'] == pytest.approx(np.mean(rates))
    # 4.303 standard deviations over sqrt(3), and a little for the problems.
    expected = 4.303 * np.std(rates, ddof=1) / 3**0.5
    assert high - pooled['spoiling_rate'] == pytest.approx(expected, rel=0.05)


def test_epochs_by_hand():
  assert tables.epochs([None]) == ''
  assert tables.epochs([1.04, None, 1.0]) == '(1.0 epochs)'
  assert tables.epochs([10.0, 1.0, 9.0]) == '(1.0–10.0 epochs)'


def test_console_shows_everything_in_80_columns():
  shown = printed({'Base': BASE, 'SCoRe': SCORE}, title='MATH')
  assert 'MATH' in shown
  assert '…' not in shown
  for part in (
    *('Accuracy@t1', 'Accuracy@t2', 'Δ(t1,t2)', 'Δ i→c', 'Δ c→i'),
    *('52.6', '48.2, 57.0', '-11.2', '-15.0, -7.4', '+4.4', '+2.0, +6.8'),
    'percent of 500 problems',
  ):
    assert part in shown
  assert max(map(len, shown.splitlines())) <= 80


def test_different_numbers_of_problems_have_a_column():
  shown = printed({'Base': BASE, 'SCoRe': SCORE | {'problems': 1234}}, 120)
  assert 'Problems' in shown
  assert '1,234' in shown
  assert 'percent of all problems' in shown


def test_policies_with_different_turns_share_a_table():
  # Accuracies come first, in the order of turns, and gaps are marked.
  three = SCORE | {'acc_t3': 0.65, 'delta_t2_t3': 0.006, 'i_to_c_t2_t3': 0.01}
  single = {'acc_t1': 0.618, 'problems': 500}
  table = tables.console_table({'Single': single, 'Three': three})
  assert table.headings == [
    'Policy', 'Accuracy@t1', 'Accuracy@t2', 'Accuracy@t3', 'Δ(t1,t2)', 'Δ i→c',
    'Δ c→i', 'Δ(t2,t3)', 'Δ i→c (t2,t3)',
  ]  # fmt: skip
  first, second = table.rows
  assert [cell.value for cell in first] == ['Single', '61.8', *['-'] * 7]
  assert [cell.value for cell in second[-2:]] == ['+0.6', '1.0']


def test_names_are_not_markup():
  assert 'run [red]' in printed({'run [red]': BASE}, width=100)
