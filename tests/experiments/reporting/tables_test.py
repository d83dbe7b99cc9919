"""The table shows the numbers that it was given, all of them."""

import io

from rich import console

from experiments.reporting import tables

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
  table = tables.metric_table({'Base': [BASE], 'SCoRe': seeds, 'x': []}, names)
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
  table = tables.rewards({'Base': [turns]})
  assert table.headings == ['Policy', *[f'Reward@t{k}' for k in range(1, 11)]]
  assert table.rows == [[('Base', ''), *[(str(k), '') for k in range(1, 11)]]]
  seeds = [{'reward_t1': 2.5, 'reward_t2': -1.0}, {'reward_t1': 3.5}]
  # Two values a and b: mean (a + b) / 2, standard deviation |a - b| / sqrt 2.
  table = tables.rewards({'x': seeds, 'y': [BASE]})
  assert table.rows[0][1:] == [('3', '±0.707'), ('-1', '')]
  assert table.rows[1][1:] == [tables.MISSING] * 2
  assert tables.rewards({'Base': [BASE]}) is None
  assert tables.columns([BASE | turns]) == tables.columns([BASE])


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
