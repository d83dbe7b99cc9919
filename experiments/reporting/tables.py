"""Tables as plain texts: rich prints them, the page's template renders them."""

from collections.abc import Iterable, Mapping, Sequence
import csv
import dataclasses
import io
import json
import pathlib
import re
import statistics
from typing import Any, NamedTuple

import numpy as np
from rich import box, markup, text
from rich import table as rich_table

from score_jax.evaluation import bootstrap
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
# What the notes of `epochs` say, for captions.
ABOUT_EPOCHS = 'epochs: passes of supervised updates over their pairs'

# Measures by name: fractions, with `<name>_ci95` the bounds of some and, where
# they are means over seeds, `<name>_sd` their standard deviation.
Record = Mapping[str, Any]
# By measure, the number of each problem, by its id.
Values = Mapping[str, Mapping[str, float]]


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
    for name, *cells in self.rows:
      table.add_row(_printed(name), *[_printed(c, 'bold') for c in cells])
    return table

  def markdown(self) -> str:
    """The table as markdown, one line a row, ending with a line break."""
    lines = [self.headings, ['---'] + ['---:'] * (len(self.headings) - 1)]
    lines += [
      [' '.join([cell.value, *cell.note.splitlines()]) for cell in row]
      for row in self.rows
    ]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def _printed(cell: Cell, style: str = '') -> text.Text:
  note = ('\n', (cell.note, 'dim')) if cell.note else ()
  return text.Text.assemble((cell.value, style), *note)


def number_of_turns(summary: Record) -> int:
  """K of a policy summary."""
  return sum(bool(re.fullmatch(r'acc_t\d+', name)) for name in summary)


def _measures(records: Iterable[Record]) -> list[str]:
  """Names of the numbers of any of the records that are no counts."""
  return list(
    dict.fromkeys(
      name
      for record in records
      for name, value in record.items()
      if isinstance(value, int | float) and name not in _COUNTS
    )
  )


def columns(summaries: Iterable[Record]) -> list[str]:
  """Metrics of any of the summaries: accuracies, then transitions in turn.

  Without training rewards, which are no fractions; see `rewards`.
  """
  names = [n for n in _measures(summaries) if not n.startswith(_REWARD)]
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


def _is_difference(name: str) -> bool:
  return name.startswith(('delta', 'gain'))


def percent(name: str, value: float) -> str:
  """A metric in percent with one digit; differences have a sign."""
  sign = '+' if _is_difference(name) else ''
  return f'{100 * value:{sign}.1f}'


def pool(
  records: Sequence[Record], values: Sequence[Values] = ()
) -> dict[str, Any]:
  """One record of several seeds': means, their standard deviations, intervals.

  `problems` are those of one seed. A single record stays as it is.

  Args:
    records: one a seed; a seed without a metric is left out of its mean.
    values: of each seed, what its record has the means of. Metrics without
      values have no interval: those of single seeds leave out that another seed
      trains another policy.
  """
  if len(records) == 1:
    return dict(records[0])
  pooled: dict[str, Any] = {}
  for name in _measures(records):
    numbers = [record[name] for record in records if name in record]
    pooled[name] = statistics.fmean(numbers)
    if len(numbers) > 1:
      pooled[f'{name}_sd'] = statistics.stdev(numbers)
    held = [by_problem[name] for by_problem in values if name in by_problem]
    common = sorted(set.intersection(*map(set, held))) if held else []
    if len(held) > 1 and len(common) > 1:
      margin = bootstrap.margin_over_seeds(
        np.array([[each[problem] for problem in common] for each in held])
      )
      least = -1.0 if _is_difference(name) else 0.0
      pooled[f'{name}_ci95'] = [
        max(pooled[name] - margin, least),
        min(pooled[name] + margin, 1.0),
      ]
  problems = [record['problems'] for record in records if 'problems' in record]
  return pooled | ({'problems': max(problems)} if problems else {})


def cell(name: str, record: Record) -> Cell:
  """A metric in percent, with what is known of its error beneath."""
  if name not in record:
    return MISSING
  bounds = record.get(f'{name}_ci95', ())
  note = ', '.join(percent(name, bound) for bound in bounds)
  if f'{name}_sd' in record:
    spread = f'±{100 * record[f"{name}_sd"]:.1f}'
    note = f'{spread}\n[{note}]' if note else spread
  return Cell(percent(name, record[name]), note)


def either(numbers: Iterable[int]) -> str:
  """A number, or several: `2,000` or `2 or 3`."""
  return ' or '.join(f'{number:,}' for number in sorted(set(numbers)))


def notes_of_cells(seeds: str) -> str:
  """What stands beneath the numbers of `cell`, for so many seeds."""
  if seeds == '1':
    return '95 % intervals beneath'
  return (
    f"mean of {seeds} seeds, ± their standard deviation, and the mean's 95 % "
    'interval [over seeds and problems]'
  )


def epochs(passes: Sequence[float | None]) -> str:
  """Passes over a supervised stage's pairs, by seed, as a note; may be ''."""
  made = [f'{each:.1f}' for each in passes if each is not None]
  if not made:
    return ''
  low, high = min(made, key=float), max(made, key=float)
  return f'({low if low == high else f"{low}–{high}"} epochs)'


def metric_table(
  policies: Mapping[str, Record],
  names: Sequence[str],
  caption: str = '',
  title: str = '',
  headings: Sequence[str] = (),
  notes: Mapping[str, str] | None = None,
) -> Table:
  """A row a policy (its record by its name), a column a metric.

  `notes` of some policies stand beneath their names.
  """
  rows = [
    [
      Cell(policy, (notes or {}).get(policy, '')),
      *[cell(name, record) for name in names],
    ]
    for policy, record in policies.items()
  ]
  headings = headings or ['Policy', *map(heading, names)]
  return Table(headings, rows, title, caption)


def rewards(policies: Mapping[str, Record]) -> Table | None:
  """Mean training reward of each attempt; None where it is the grader's score.

  Of several runs of a policy mean and, beneath, standard deviation (n - 1).
  """
  names = [
    name
    for name in _measures(policies.values())
    if re.fullmatch(rf'{_REWARD}\d+', name)
  ]
  names.sort(key=lambda name: int(name.removeprefix(_REWARD)))
  if not names:
    return None

  def cell(record: Record, name: str) -> Cell:
    if name not in record:
      return MISSING
    spread = record.get(f'{name}_sd')
    note = '' if spread is None else f'±{spread:.3g}'
    return Cell(f'{record[name]:.3g}', note)

  headings = [f'Reward@{name.removeprefix("reward_")}' for name in names]
  rows = [
    [Cell(policy), *[cell(record, name) for name in names]]
    for policy, record in policies.items()
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
  counts = [f'{summary["problems"]:,}' for summary in summaries.values()]
  caption = 'percent of {} problems, 95 % intervals beneath'
  caption += rule(correct_from)
  names = columns(summaries.values())
  if len(set(counts)) == 1:
    return metric_table(summaries, names, caption.format(counts[0]), title)
  table = metric_table(summaries, names, caption.format('all'), title)
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
