"""The paper's table (its Table 2) of several policies, for console and page."""

from collections.abc import Mapping
import re
from typing import Any

from rich import box, table, text

_MISSING = '-'
_COUNTS = ('problems', 'ungraded')
_HEADINGS = {
  'delta': 'Δ(t1,t2)',
  'i_to_c': 'Δ i→c',
  'c_to_i': 'Δ c→i',
}


def _columns(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """Metrics of any summary: accuracies first, then transitions in turn."""
  names = dict.fromkeys(
    name
    for summary in summaries.values()
    for name in summary
    if name not in _COUNTS and not name.endswith('_ci95')
  )
  accuracies = sorted(
    (name for name in names if name.startswith('acc_t')),
    key=lambda name: int(name.removeprefix('acc_t')),
  )
  return accuracies + [name for name in names if name not in accuracies]


def _heading(name: str) -> str:
  """`acc_t1` -> Accuracy@t1; `i_to_c_t2_t3` -> Δ i→c (t2,t3)."""
  if name.startswith('acc_t'):
    return f'Accuracy@{name.removeprefix("acc_")}'
  base, first, second = re.fullmatch(r'(.+?)(?:_(t\d+)_(t\d+))?', name).groups()
  if first is None:
    return _HEADINGS.get(base, name)
  if base == 'delta':
    return f'Δ({first},{second})'
  return f'{_HEADINGS.get(base, base)} ({first},{second})'


def _percent(name: str, value: float) -> str:
  sign = '+' if name.startswith('delta') else ''
  return f'{100 * value:{sign}.1f}'


def _cell(name: str, summary: Mapping[str, Any]) -> tuple[str, str]:
  """A metric and its interval as texts; the latter may be empty."""
  if name not in summary:
    return _MISSING, ''
  bounds = summary.get(f'{name}_ci95', ())
  interval = ', '.join(_percent(name, bound) for bound in bounds)
  return _percent(name, summary[name]), interval


def console_table(
  summaries: Mapping[str, Mapping[str, Any]], title: str | None = None
) -> table.Table:
  """A table for rich's console: percent, with the 95 % interval beneath.

  Two turns fit into 80 columns. The number of problems stands below the table,
  or in a column where the policies' numbers differ.

  Args:
    summaries: `metrics.policy_summary` of each policy, by the name to show.
    title: above the table.
  """
  counts = {summary['problems'] for summary in summaries.values()}
  of_all = f'of {counts.pop():,} problems' if len(counts) == 1 else ''
  result = table.Table(
    title=title,
    caption=f'percent {of_all or "of all problems"}, 95 % intervals beneath',
    box=box.HORIZONTALS,
    show_lines=True,
  )
  names = _columns(summaries)
  result.add_column('Policy')
  for heading in [_heading(name) for name in names]:
    result.add_column(heading, justify='right', overflow='fold')
  if not of_all:
    result.add_column('Problems', justify='right')
  for policy, summary in summaries.items():
    row = [text.Text(policy)]
    for name in names:
      value, interval = _cell(name, summary)
      row.append(text.Text.assemble((value, 'bold'), '\n', (interval, 'dim')))
    if not of_all:
      row.append(text.Text(f'{summary["problems"]:,}'))
    result.add_row(*row)
  return result


def markdown_table(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """The same table as markdown, one line a policy, ending with a line break.

  Args:
    summaries: `metrics.policy_summary` of each policy, by the name to show.
  """
  names = _columns(summaries)
  rows = [
    ['Policy', *[_heading(name) for name in names], 'Problems'],
    ['---'] + ['---:'] * (len(names) + 1),
  ]
  for policy, summary in summaries.items():
    cells = []
    for name in names:
      value, interval = _cell(name, summary)
      cells.append(f'{value} [{interval}]' if interval else value)
    rows.append([policy, *cells, f'{summary["problems"]:,}'])
  return ''.join(f'| {" | ".join(row)} |\n' for row in rows)
