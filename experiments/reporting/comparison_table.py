"""The table of many runs: a row a method, its seeds' mean and spread."""

from collections.abc import Mapping, Sequence
import csv
import io
import pathlib
import statistics
from typing import Any

from rich import box, text
from rich import table as rich_table

from experiments import methods
from experiments.run import many_runs
from score_jax.io import json_files

_SHOWN = {
  'acc_t1': 'Acc@t1',
  'acc_t2': 'Acc@t2',
  'acc_t3': 'Acc@t3',
  'delta': 'Δ(t1,t2)',
  'i_to_c': 'Δ i→c',
  'c_to_i': 'Δ c→i',
  'gain': 'vs SCoRe',
}


def summarise(cells: Sequence[many_runs.PlannedRun]) -> dict[str, Any]:
  """Rows by group: each seed's numbers, their mean and standard deviation.

  `gain` is the last turn's accuracy less SCoRe's from the same base policy, so
  that its spread over seeds is not that of the base policies.
  """
  rows: dict[str, Any] = {}
  for cell in cells:
    result = cell.result()
    if result is None:
      continue
    row = rows.setdefault(
      cell.group, {'method': cell.settings.method, 'value': cell.value}
    )
    numbers = {k: v for k, v in result.items() if isinstance(v, float)}
    score = _score_beside(cell, cells)
    if score:
      last = f'acc_t{cell.settings.turns}'
      numbers['gain'] = result[last] - score[last]
    row.setdefault('seeds', {})[str(cell.settings.seed)] = numbers
  for row in rows.values():
    names = dict.fromkeys(n for s in row['seeds'].values() for n in s)
    values = {
      name: [s[name] for s in row['seeds'].values() if name in s]
      for name in names
    }
    row['mean'] = {n: statistics.fmean(v) for n, v in values.items()}
    row['spread'] = {
      n: statistics.stdev(v) for n, v in values.items() if len(v) > 1
    }
  return rows


def _score_beside(
  cell: many_runs.PlannedRun, cells: Sequence[many_runs.PlannedRun]
) -> dict[str, Any] | None:
  """SCoRe's result of the same seed and value, if it is there."""
  key = (cell.settings.seed, cell.value)
  for other in cells:
    is_beside = (other.settings.seed, other.value) == key
    if is_beside and other.settings.method == 'score':
      return other.result()
  return None


def write(
  path: pathlib.Path,
  rows: Mapping[str, Any],
  titles: Mapping[str, str],
  about: Mapping[str, Any],
) -> None:
  """Writes rows as JSON; beside it a markdown table, and a CSV of all seeds.

  Args:
    path: of the JSON file.
    rows: from `summarise`.
    titles: what groups are called.
    about: what else the JSON file says.
  """
  json_files.write_json(path, {**about, 'rows': rows})
  seeds = [(g, r['method'], s, n) for g, r in rows.items()
           for s, n in r['seeds'].items()]  # fmt: skip
  metrics = list(dict.fromkeys(name for *_, n in seeds for name in n))
  lines = io.StringIO()
  writer = csv.writer(lines, lineterminator='\n')
  writer.writerow(['group', 'method', 'seed', *metrics])
  for group, method, seed, numbers in seeds:
    writer.writerow(
      [group, method, seed, *(numbers.get(name, '') for name in metrics)]
    )
  json_files.write_text(path.with_suffix('.csv'), lines.getvalue())
  json_files.write_text(path.with_suffix('.md'), markdown_table(rows, titles))


def make_table(
  rows: Mapping[str, Any], titles: Mapping[str, str]
) -> rich_table.Table:
  """The paper's table of several methods: percent, spread over seeds beneath.

  Args:
    rows: from `summarise`.
    titles: what groups are called; others by their own name.
  """
  counts = {len(row['seeds']) for row in rows.values()}
  most = max(counts, default=0)
  caption = f'percent, mean of {most} seeds, ± their standard deviation'
  if most == 1:
    caption = 'percent, one seed'
  caption += '; vs SCoRe: last accuracy less that from the same base policy'
  table = rich_table.Table(box=box.HORIZONTALS, caption=caption)
  names = _columns(rows)
  table.add_column('Method')
  for name in names:
    table.add_column(_SHOWN[name], justify='right', no_wrap=True)
  kind = None
  for group, row in rows.items():
    before, kind = kind, methods.METHODS[row['method']].kind
    if before not in (None, kind):
      table.add_section()
    missing = most - len(row['seeds'])
    count = len(row['seeds'])
    note = f' ({count} seed{"s" * (count > 1)})' if missing else ''
    cells = [
      text.Text.assemble((mean, 'bold'), '\n', (spread, 'dim'))
      if spread
      else mean
      for mean, spread in (_cell(row, name) for name in names)
    ]
    table.add_row(titles.get(group, group) + note, *cells)
  return table


def markdown_table(rows: Mapping[str, Any], titles: Mapping[str, str]) -> str:
  """The same table as markdown, one line a method, ending with a line break."""
  names = _columns(rows)
  lines = [
    ['Method', *(_SHOWN[name] for name in names), 'Seeds'],
    ['---', *['---:'] * (len(names) + 1)],
  ]
  for group, row in rows.items():
    cells = [' '.join(filter(None, _cell(row, name))) for name in names]
    lines.append([titles.get(group, group), *cells, str(len(row['seeds']))])
  return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def _columns(rows: Mapping[str, Any]) -> list[str]:
  return [n for n in _SHOWN if any(n in row['mean'] for row in rows.values())]


def _cell(row: Mapping[str, Any], name: str) -> tuple[str, str]:
  """A metric's mean and its spread as texts; the latter may be empty."""
  if name not in row['mean']:
    return '-', ''
  sign = '+' if name in ('delta', 'gain') else ''
  spread = ''
  if name in row['spread']:
    spread = f'±{100 * row["spread"][name]:.1f}'
  return f'{100 * row["mean"][name]:{sign}.1f}', spread
