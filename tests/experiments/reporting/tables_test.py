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
  assert tables.markdown_table({'Base': BASE}) == (
    '| Policy | Accuracy@t1 | Accuracy@t2 | Δ(t1,t2) | Δ i→c | Δ c→i '
    '| Problems |\n'
    '| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n'
    '| Base | 52.6 [48.2, 57.0] | 41.4 [37.0, 45.8] | -11.2 [-15.0, -7.4] '
    '| 4.6 [2.8, 6.6] | 15.8 [12.6, 19.0] | 500 |\n'
  )


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
  lines = tables.markdown_table({'Single': single, 'Three': three}).split('\n')
  assert lines[0] == (
    '| Policy | Accuracy@t1 | Accuracy@t2 | Accuracy@t3 | Δ(t1,t2) | Δ i→c '
    '| Δ c→i | Δ(t2,t3) | Δ i→c (t2,t3) | Problems |'
  )
  assert lines[2] == '| Single | 61.8 | - | - | - | - | - | - | - | 500 |'
  assert '| 65.0 |' in lines[3]
  assert '| +0.6 | 1.0 | 500 |' in lines[3]


def test_names_are_not_markup():
  assert 'run [red]' in printed({'run [red]': BASE}, width=100)
