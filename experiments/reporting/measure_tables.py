"""Tables of what an evaluation measured beyond the five metrics.

`Policies` are records of measures by the name to show.
"""

from collections.abc import Iterator, Mapping
import dataclasses

from experiments.reporting import tables

Policies = Mapping[str, tables.Record]

AT_K = {
  'pass_at': 'pass@k: at least one of k samples is right',
  'majority_at': 'majority of k samples',
}
SHARES = {
  'changed_answer': 'answer changed',
  'frac_identical': 'identical',
  'correction_rate': 'wrong ones corrected',
  'spoiling_rate': 'right ones spoilt',
  'edit_distance_ratio': 'edit ratio',
}
_CURVES = {'parallel': '2K', 'corrected': 'K, corrected', 'gain': 'difference'}


def attempts(policies: Policies) -> tables.Table:
  """Accuracy of every attempt, for the console: without intervals."""
  table = every_attempt(policies)
  # Ten intervals would not fit a terminal; they are in the file.
  rows = [[tables.Cell(cell.value) for cell in row] for row in table.rows]
  title = f'Accuracy of {len(table.headings) - 1} attempts'
  return dataclasses.replace(table, rows=rows, title=title)


def every_attempt(policies: Policies, caption: str = '') -> tables.Table:
  """Accuracy of every attempt, for episodes of more than a few turns."""
  turns = max(map(tables.number_of_turns, policies.values()))
  names = [f'acc_t{k}' for k in range(1, turns + 1)]
  headings = ['Policy', *map(str, range(1, turns + 1))]
  return tables.metric_table(policies, names, caption, headings=headings)


def others(policies: Policies) -> Iterator[tables.Table]:
  """A table of each other measure that any of the policies has."""
  rewards = tables.rewards(policies)
  if rewards:
    yield rewards
  titles = {'changes': 'From the first attempt to the second'} | AT_K
  for measure, title in titles.items():
    held = {n: m[measure] for n, m in policies.items() if measure in m}
    if held:
      yield changes(held, title) if measure == 'changes' else at_k(title, held)
  for name, measured in policies.items():
    if 'scaling' in measured:
      yield _scaling(name, measured['scaling'])
    if 'by' in measured:
      yield _by(name, **measured['by'])


def comparison(
  against: str, tests: Mapping[str, tables.Record]
) -> tables.Table:
  """Paired differences of policies to the one they are tested against."""
  return tables.Table(
    ['Policy', *map(tables.heading, tables.METRICS)],
    [[tables.Cell(name), *differences(found)] for name, found in tests.items()],
    f'Differences to {against}, paired by problem',
  )


def differences(tests: Mapping[str, tables.Record]) -> list[tables.Cell]:
  """Percentage points of each of the five; interval and p-value beneath."""
  return [
    tables.Cell(
      f'{100 * test["difference"]:+.1f}',
      ', '.join(f'{100 * bound:+.1f}' for bound in test['difference_ci95'])
      + f'\np = {test["p_value"]:.2g}',
    )
    if (test := tests.get(metric))
    else tables.MISSING
    for metric in tables.METRICS
  ]


def changes(policies: Policies, title: str = '') -> tables.Table:
  """What second attempts did to first ones: shares of `changes.summarize`."""
  headings = ['Policy', *SHARES.values()]
  return tables.metric_table(policies, list(SHARES), '', title, headings)


def at_k(
  title: str,
  policies: Mapping[str, Mapping[str, tables.Record]],
  caption: str = '',
) -> tables.Table:
  """A measure of k samples: a row a policy and turn, a column a k."""
  sizes = list(
    dict.fromkeys(k for by_size in policies.values() for k in by_size)
  )
  turns = [t for t in next(iter(policies.values()))[sizes[0]] if '_' not in t]
  rows = [
    [tables.Cell(f'{name}, {turn}')]
    + [tables.cell(turn, by_size.get(k, {})) for k in sizes]
    for name, by_size in policies.items()
    for turn in turns
  ]
  headings = ['Policy', *[f'k = {k}' for k in sizes]]
  return tables.Table(headings, rows, title, caption)


def _scaling(name: str, scaling: tables.Record) -> tables.Table:
  voters = {'last': 'second attempts', 'all': 'all attempts'}[scaling['vote']]
  records = [
    {key: values[i] for key, values in scaling.items() if key != 'vote'}
    for i in range(len(scaling['budgets']))
  ]
  rows = [
    [tables.Cell(label), *[tables.cell(curve, r) for r in records]]
    for curve, label in _CURVES.items()
  ]
  headings = ['Attempts', *map(str, scaling['budgets'])]
  title = f'{name}: majority votes ({voters} of corrected episodes)'
  return tables.Table(headings, rows, title)


def _by(
  name: str, column: str, groups: Mapping[str, tables.Record]
) -> tables.Table:
  rows = {f'{g} ({held["problems"]:,})': held for g, held in groups.items()}
  title = f'{name}, by {column} (problems)'
  headings = [column, *map(tables.heading, tables.METRICS)]
  return tables.metric_table(rows, tables.METRICS, '', title, headings)
