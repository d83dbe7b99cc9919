"""Console tables of what an evaluation measured beyond the five metrics."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box, table, text

from experiments.reporting import tables

Cell = tuple[str, str]  # a value and what stands beneath it
Policies = Mapping[str, Mapping[str, Any]]

# The paper's five.
_METRICS = ('acc_t1', 'acc_t2', 'delta', 'i_to_c', 'c_to_i')


def attempts(policies: Policies) -> table.Table:
  """Accuracy of every attempt, for episodes of more than a few turns."""
  turns = max(map(tables.number_of_turns, policies.values()))
  return _grid(
    f'Accuracy of {turns} attempts',
    [str(k) for k in range(1, turns + 1)],
    {
      # Ten intervals would not fit a terminal; they are in the file.
      name: [
        (_value(measured, f'acc_t{k}', 'acc')[0], '')
        for k in range(1, turns + 1)
      ]
      for name, measured in policies.items()
    },
  )


def others(policies: Policies) -> Iterator[table.Table]:
  """A table of each other measure that any of the policies has."""
  changes = {n: m['changes'] for n, m in policies.items() if 'changes' in m}
  if changes:
    yield _changes(changes)
  for measure, title in (
    ('pass_at', 'pass@k: at least one of k samples is right'),
    ('majority_at', 'majority of k samples'),
  ):
    held = {n: m[measure] for n, m in policies.items() if measure in m}
    if held:
      yield _at_k(title, held)
  for name, measured in policies.items():
    if 'scaling' in measured:
      yield _scaling(name, measured['scaling'])
    if 'by' in measured:
      yield _by(name, **measured['by'])


def comparison(
  against: str, tests: Mapping[str, Mapping[str, Any]]
) -> table.Table:
  """Differences of policies to the one they are tested against."""
  rows = {}
  for name, found in tests.items():
    rows[name] = [
      (
        f'{100 * found[metric]["difference"]:+.1f}',
        f'p = {found[metric]["p_value"]:.2g}',
      )
      if metric in found
      else ('-', '')
      for metric in _METRICS
    ]
  headings = [tables.heading(metric) for metric in _METRICS]
  return _grid(f'Differences to {against}, paired by problem', headings, rows)


def _changes(changes: Policies) -> table.Table:
  shares = {
    'changed_answer': 'answer changed',
    'frac_identical': 'identical',
    'edit_distance_ratio': 'edit ratio',
    'correction_rate': 'wrong ones corrected',
    'spoiling_rate': 'right ones spoilt',
  }
  rows = {
    name: [_value(held, share, share) for share in shares]
    for name, held in changes.items()
  }
  return _grid('From the first attempt to the second', shares.values(), rows)


def _at_k(title: str, held: Policies) -> table.Table:
  sizes = list(dict.fromkeys(k for by_size in held.values() for k in by_size))
  rows = {
    f'{name}, {turn}': [_value(by_size.get(k, {}), turn, turn) for k in sizes]
    for name, by_size in held.items()
    for turn in (t for t in by_size[sizes[0]] if not t.endswith('_ci95'))
  }
  return _grid(title, [f'k = {k}' for k in sizes], rows)


def _scaling(name: str, scaling: Mapping[str, Any]) -> table.Table:
  labels = {
    'parallel': '2K attempts',
    'corrected': 'K, corrected',
    'gain': 'difference',
  }
  rows = {
    label: [
      (_percent(value, curve), _interval(bounds, curve))
      for value, bounds in zip(scaling[curve], scaling[f'{curve}_ci95'])
    ]
    for curve, label in labels.items()
  }
  voters = {'last': 'second attempts', 'all': 'all attempts'}[scaling['vote']]
  return _grid(
    f'{name}: majority votes ({voters} of corrected episodes)',
    [f'2K = {budget}' for budget in scaling['budgets']],
    rows,
  )


def _by(name: str, column: str, groups: Policies) -> table.Table:
  rows = {
    f'{group} ({held["problems"]:,})': [
      _value(held, metric, metric) for metric in _METRICS
    ]
    for group, held in groups.items()
  }
  headings = [tables.heading(metric) for metric in _METRICS]
  return _grid(f'{name}, by {column} (problems)', headings, rows, column)


def _value(held: Mapping[str, Any], name: str, kind: str) -> Cell:
  if name not in held:
    return '-', ''
  bounds = held.get(f'{name}_ci95', ())
  return _percent(held[name], kind), _interval(bounds, kind)


def _percent(value: float, kind: str) -> str:
  return tables.percent('delta' if kind == 'gain' else kind, value)


def _interval(bounds: Sequence[float], kind: str) -> str:
  return ', '.join(_percent(bound, kind) for bound in bounds)


def _grid(
  title: str,
  headings: Sequence[str],
  rows: Mapping[str, Sequence[Cell]],
  label: str = 'Policy',
) -> table.Table:
  """Percent with 95 % intervals beneath, a row a policy."""
  result = table.Table(title=title, box=box.HORIZONTALS, show_lines=True)
  result.add_column(label)
  for heading in headings:
    result.add_column(heading, justify='right')
  for name, cells in rows.items():
    result.add_row(
      text.Text(name),
      *(
        text.Text.assemble((value, 'bold'), '\n', (beneath, 'dim'))
        for value, beneath in cells
      ),
    )
  return result
