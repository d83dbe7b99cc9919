"""Tables as plain texts: rich prints them, the page's template renders them."""

from collections.abc import Iterable, Mapping, Sequence
import csv
import dataclasses
import io
import json
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np
from rich import box, markup, text
from rich import table as rich_table

from score_jax.io import json_files

# The paper's five.
METRICS = ('acc_t1', 'acc_t2', 'delta', 'i_to_c', 'c_to_i')
_COUNTS = ('problems', 'ungraded')
_REWARD = 'reward_t'
_HEADINGS = {'delta': 'Δ(t1,t2)', 'i_to_c': 'Δ i→c', 'c_to_i': 'Δ c→i'}

_PAPER = pathlib.Path(__file__).with_name('paper_results.json')


class Cell(NamedTuple):
  """A value, and an interval, a spread or a remark beneath it."""

  value: str
  note: str = ''


MISSING = Cell('-')

# Measures by name: fractions, with `<name>_ci95` the bounds of some.
Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of texts, whose first column names the rows."""

  headings: Sequence[str]
  rows: Sequence[Sequence[Cell]]
  title: str = ''
  caption: str = ''

  def __rich__(self) -> rich_table.Table:
    table = rich_table.Table(
      title=markup.escape(self.title) or None,
      caption=markup.escape(self.caption) or None,
      box=box.HORIZONTALS,
      show_lines=True,
    )
    for i, heading in enumerate(self.headings):
      justify = 'right' if i else 'left'
      table.add_column(text.Text(heading), justify=justify, overflow='fold')
    for (name, _), *cells in self.rows:
      table.add_row(text.Text(name), *map(_printed, cells))
    return table

  def markdown(self) -> str:
    """The table as markdown, one line a row, ending with a line break."""
    lines = [self.headings, ['---'] + ['---:'] * (len(self.headings) - 1)]
    lines += [[' '.join(filter(None, c)) for c in row] for row in self.rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def _printed(cell: Cell) -> text.Text:
  note = ('\n', (cell.note, 'dim')) if cell.note else ()
  return text.Text.assemble((cell.value, 'bold'), *note)


def number_of_turns(summary: Record) -> int:
  """K of a policy summary."""
  return sum(bool(re.fullmatch(r'acc_t\d+', name)) for name in summary)


def columns(summaries: Iterable[Record]) -> list[str]:
  """Metrics of any of the summaries: accuracies, then transitions in turn.

  Without training rewards, which are no fractions; see `rewards`.
  """
  names = dict.fromkeys(
    name
    for summary in summaries
    for name, value in summary.items()
    if isinstance(value, int | float)
    and name not in _COUNTS
    and not name.startswith(_REWARD)
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
  sign = '+' if name.startswith(('delta', 'gain')) else ''
  return f'{100 * value:{sign}.1f}'


def cell(name: str, records: Sequence[Record]) -> Cell:
  """A metric in percent: of one run with its interval, of several their mean.

  Beneath the mean stands the standard deviation over runs (n - 1). It holds
  what the interval of one run does not: another seed trains another policy.
  Records of one policy without the metric are left out.
  """
  records = [record for record in records if name in record]
  if not records:
    return MISSING
  values = np.array([record[name] for record in records])
  if len(records) > 1:
    note = f'±{100 * values.std(ddof=1):.1f}'
  else:
    bounds = records[0].get(f'{name}_ci95', ())
    note = ', '.join(percent(name, bound) for bound in bounds)
  return Cell(percent(name, values.mean()), note)


def metric_table(
  policies: Mapping[str, Sequence[Record]],
  names: Sequence[str],
  caption: str = '',
  title: str = '',
  headings: Sequence[str] = (),
) -> Table:
  """A row a policy (its records, one a run, by its name), a column a metric."""
  rows = [
    [Cell(policy), *[cell(name, records) for name in names]]
    for policy, records in policies.items()
  ]
  headings = headings or ['Policy', *map(heading, names)]
  return Table(headings, rows, title, caption)


def rewards(policies: Mapping[str, Sequence[Record]]) -> Table | None:
  """Mean training reward of each attempt; None where it is the grader's score.

  Of several runs of a policy mean and, beneath, standard deviation (n - 1).
  """
  records = [record for held in policies.values() for record in held]
  names = sorted(
    {n for record in records for n in record if n.startswith(_REWARD)},
    key=lambda name: int(name.removeprefix(_REWARD)),
  )
  if not names:
    return None

  def cell(held: Sequence[Record], name: str) -> Cell:
    values = [record[name] for record in held if name in record]
    if not values:
      return MISSING
    note = f'±{np.std(values, ddof=1):.3g}' if len(values) > 1 else ''
    return Cell(f'{np.mean(values):.3g}', note)

  headings = [f'Reward@{name.removeprefix("reward_")}' for name in names]
  rows = [
    [Cell(policy), *[cell(held, name) for name in names]]
    for policy, held in policies.items()
  ]
  return Table(
    ['Policy', *headings], rows, 'Training reward', 'mean of rewarded attempts'
  )


def rule(correct_from: float | None) -> str:
  """What captions say of correctness where a training reward decides it."""
  if correct_from is None:
    return ''
  return f'; correct is a training reward of at least {correct_from:g}'


def console_table(
  summaries: Mapping[str, Record],
  title: str = '',
  correct_from: float | None = None,
) -> Table:
  """The paper's table (its Table 2) of `metrics.policy_summary` by policy.

  Of two turns it fits into 80 columns. The number of problems is in a column
  where the policies' numbers differ.

  Args:
    summaries: by the name to show.
    title: above the table.
    correct_from: the training reward from which on an attempt is correct, if
      that is the rule.
  """
  held = {name: [summary] for name, summary in summaries.items()}
  counts = [f'{summary["problems"]:,}' for summary in summaries.values()]
  caption = 'percent of {} problems, 95 % intervals beneath'
  caption += rule(correct_from)
  names = columns(summaries.values())
  if len(set(counts)) == 1:
    return metric_table(held, names, caption.format(counts[0]), title)
  table = metric_table(held, names, caption.format('all'), title)
  rows = [[*row, Cell(n)] for row, n in zip(table.rows, counts)]
  headings = [*table.headings, 'Problems']
  return dataclasses.replace(table, headings=headings, rows=rows)


def lines(
  start: Iterable[Any], record: Record, names: Iterable[str] = ()
) -> list[list]:
  """Lines of a CSV file: start, metric, value, bounds; of all without names."""
  return [
    [*start, name, record[name], *record.get(f'{name}_ci95', ('', ''))]
    for name in names or record
    if name in record and not name.endswith('_ci95')
  ]


def write_csv(
  path: pathlib.Path, headings: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
  """Writes a CSV file; it replaces an older one once it is complete."""
  stream = io.StringIO()
  writer = csv.writer(stream, lineterminator='\n')
  writer.writerow(headings)
  writer.writerows(rows)
  json_files.write_text(path, stream.getvalue())


def of_the_paper(section: str, task: str) -> list[Table]:
  """The paper's tables for a section of the page, on problems like a task's.

  arXiv:2409.12917v2 and the camera-ready version (ICLR 2025), whose tables are
  numbered differently where they have grown. Numbers are in percent.
  """
  return [
    Table(
      table['headings'],
      [
        [Cell(name), *[Cell(f'{v:.1f}') for v in values]]
        for name, values in table['rows'].items()
      ],
      title=f'The paper: {table["title"]}',
      caption=f'{table["source"]}; percent.',
    )
    for table in json.loads(_PAPER.read_text(encoding='utf-8'))
    if table['section'] == section and task in table['tasks']
  ]
