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


def number_of_turns(summary: Mapping[str, Any]) -> int:
  """K of a policy summary."""
  return sum(bool(re.fullmatch(r'acc_t\d+', name)) for name in summary)


def columns(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """Metrics of any of the summaries: accuracies, then transitions in turn."""
  names = dict.fromkeys(
    name
    for summary in summaries.values()
    for name, value in summary.items()
    if isinstance(value, int | float) and name not in _COUNTS
  )
  accuracies = sorted(
    (name for name in names if name.startswith('acc_t')),
    key=lambda name: int(name.removeprefix('acc_t')),
  )
  return accuracies + [name for name in names if name not in accuracies]


def heading(name: str) -> str:
  """`acc_t1` -> Accuracy@t1; `i_to_c_t2_t3` -> Δ i→c (t2,t3)."""
  if name.startswith('acc_t'):
    return f'Accuracy@{name.removeprefix("acc_")}'
  base, first, second = re.fullmatch(r'(.+?)(?:_(t\d+)_(t\d+))?', name).groups()
  if first is None:
    return _HEADINGS.get(base, name)
  if base == 'delta':
    return f'Δ({first},{second})'
  return f'{_HEADINGS.get(base, base)} ({first},{second})'


def percent(name: str, value: float) -> str:
  """A metric in percent with one digit; differences have a sign."""
  sign = '+' if name.startswith('delta') else ''
  return f'{100 * value:{sign}.1f}'


def _cell(name: str, summary: Mapping[str, Any]) -> tuple[str, str]:
  """A metric and its interval as texts; the latter may be empty."""
  if name not in summary:
    return _MISSING, ''
  bounds = summary.get(f'{name}_ci95', ())
  interval = ', '.join(percent(name, bound) for bound in bounds)
  return percent(name, summary[name]), interval


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
  names = columns(summaries)
  result.add_column('Policy')
  for name in names:
    result.add_column(heading(name), justify='right', overflow='fold')
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
  names = columns(summaries)
  rows = [
    ['Policy', *[heading(name) for name in names], 'Problems'],
    ['---'] + ['---:'] * (len(names) + 1),
  ]
  for policy, summary in summaries.items():
    cells = []
    for name in names:
      value, interval = _cell(name, summary)
      cells.append(f'{value} [{interval}]' if interval else value)
    rows.append([policy, *cells, f'{summary["problems"]:,}'])
  return ''.join(f'| {" | ".join(row)} |\n' for row in rows)
