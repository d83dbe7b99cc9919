"""The table of many runs: a row a method, its seeds' mean and spread."""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
import statistics
from typing import Any

from experiments.reporting import tables
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


def summarise(runs: Sequence[Any]) -> dict[str, Any]:
  """Rows by group: each seed's numbers, their mean and standard deviation.

  `gain` is the last turn's accuracy less SCoRe's from the same base policy, so
  that its spread over seeds is not that of the base policies. Runs are
  `run.many_runs`', with a summary of the last policy once they are finished.
  """
  rows: dict[str, Any] = {}
  for run in runs:
    result = run.result()
    if result is None:
      continue
    row = rows.setdefault(
      run.group, {'method': run.settings.method, 'value': run.value}
    )
    numbers = {k: v for k, v in result.items() if isinstance(v, float)}
    score = _score_beside(run, runs)
    if score:
      last = f'acc_t{run.settings.turns}'
      numbers['gain'] = result[last] - score[last]
    row.setdefault('seeds', {})[str(run.settings.seed)] = numbers
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


def _score_beside(run: Any, runs: Sequence[Any]) -> Mapping[str, Any] | None:
  """SCoRe's result with the same seed and value, if it is finished."""
  key = ('score', run.settings.seed, run.value)
  for other in runs:
    if (other.settings.method, other.settings.seed, other.value) == key:
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
  lines = [
    (group, row['method'], seed, numbers)
    for group, row in rows.items()
    for seed, numbers in row['seeds'].items()
  ]
  metrics = list(dict.fromkeys(name for *_, seed in lines for name in seed))
  tables.write_csv(
    path.with_suffix('.csv'),
    ['group', 'method', 'seed', *metrics],
    ([*line, *[n.get(m, '') for m in metrics]] for *line, n in lines),
  )
  json_files.write_text(path.with_suffix('.md'), markdown_table(rows, titles))


def make_table(
  rows: Mapping[str, Any], titles: Mapping[str, str]
) -> tables.Table:
  """The paper's table of several methods: percent, spread over seeds beneath.

  Rows are `summarise`'s; a group without a title is called by its name.
  """
  counts = {group: len(row['seeds']) for group, row in rows.items()}
  most = max(counts.values(), default=0)
  titles = {
    group: titles.get(group, group)
    + (f' ({n} seed{"s" * (n > 1)})' if n < most else '')
    for group, n in counts.items()
  }
  caption = f'percent, mean of {most} seeds, ± their standard deviation'
  if most == 1:
    caption = 'percent, one seed'
  caption += '; vs SCoRe: last accuracy less that from the same base policy'
  return dataclasses.replace(_table(rows, titles), caption=caption)


def markdown_table(rows: Mapping[str, Any], titles: Mapping[str, str]) -> str:
  """The same table as markdown, with the number of seeds in a column."""
  table = _table(rows, titles)
  counts = [tables.Cell(str(len(row['seeds']))) for row in rows.values()]
  lines = [[*row, count] for row, count in zip(table.rows, counts)]
  return tables.Table([*table.headings, 'Seeds'], lines).markdown()


def _table(rows: Mapping[str, Any], titles: Mapping[str, str]) -> tables.Table:
  shown = [n for n in _SHOWN if any(n in row['mean'] for row in rows.values())]
  headings = ['Method', *[_SHOWN[name] for name in shown]]
  seeds = {
    titles.get(group, group): list(row['seeds'].values())
    for group, row in rows.items()
  }
  return tables.metric_table(seeds, shown, headings=headings)
