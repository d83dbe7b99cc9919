"""The table of many runs: a row a method, the mean of its seeds."""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

import numpy as np

from experiments.reporting import runs as runs_lib
from experiments.reporting import tables
from score_jax.evaluation import bootstrap
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
  """Rows by group: a record of each seed, and their `tables.pool` as `mean`.

  `gain` is the last turn's accuracy less SCoRe's from the same base policy, so
  that its spread over seeds is not that of the base policies; its intervals are
  of differences at the same problems. `epochs` are a supervised method's passes
  over its pairs. Runs are `run.many_runs`', with a summary of the last policy
  once they are finished.
  """
  finished = {run: result for run in runs if (result := run.result())}
  stages = {run: run.directory.stage(run.last_policy) for run in finished}
  values = {
    run: runs_lib.problem_values(stage) for run, stage in stages.items()
  }
  rows: dict[str, Any] = {}
  values_of_rows: dict[str, list[tables.Values]] = {}
  for run, result in finished.items():
    numbers, own = dict(result), values[run]
    epochs = runs_lib.read_epochs(stages[run], run.settings.batch_size)
    if epochs is not None:
      numbers['epochs'] = epochs
    score = next((other for other in finished if _is_score(other, run)), None)
    if score:
      last = f'acc_t{run.settings.turns}'
      numbers['gain'] = result[last] - finished[score][last]
      gains = _differences(own, values[score], last)
      if gains:
        own = {**own, 'gain': gains}
        column = np.array([*gains.values()])
        _, numbers['gain_ci95'] = bootstrap.means({'gain': column})['gain']
    row = rows.setdefault(
      run.group,
      {'method': run.settings.method, 'value': run.value, 'seeds': {}},
    )
    row['seeds'][str(run.settings.seed)] = numbers
    values_of_rows.setdefault(run.group, []).append(own)
  for group, row in rows.items():
    row['mean'] = tables.pool([*row['seeds'].values()], values_of_rows[group])
  return rows


def _is_score(run: Any, beside: Any) -> bool:
  """Whether it is SCoRe with the seed and value of another run."""
  return run.settings.method == 'score' and (
    (run.settings.seed, run.value) == (beside.settings.seed, beside.value)
  )


def _differences(
  own: tables.Values, other: tables.Values, name: str
) -> dict[str, float]:
  """The first less the second, at each problem that both have."""
  ours, theirs = own.get(name, {}), other.get(name, {})
  return {p: ours[p] - theirs[p] for p in ours if p in theirs}


def write(
  path: pathlib.Path,
  rows: Mapping[str, Any],
  titles: Mapping[str, str],
  about: Mapping[str, Any],
  notes: Sequence[str],
) -> None:
  """Writes rows as JSON; beside it a markdown table, and a CSV of all seeds.

  Args:
    path: of the JSON file.
    rows: from `summarise`.
    titles: what groups are called.
    about: what else the JSON file says.
    notes: sentences beneath the table.
  """
  json_files.write_json(path, {**about, 'notes': list(notes), 'rows': rows})
  lines = [
    (group, row['method'], seed, numbers)
    for group, row in rows.items()
    for seed, numbers in row['seeds'].items()
  ]
  names = dict.fromkeys(name for *_, seed in lines for name in seed)
  metrics = [name for name in names if not name.endswith('_ci95')]
  tables.write_csv(
    path.with_suffix('.csv'),
    ['group', 'method', 'seed', *metrics],
    ([*line, *[n.get(m, '') for m in metrics]] for *line, n in lines),
  )
  parts = [markdown_table(rows, titles), f'{_caption(rows)}.\n']
  parts += [f'{note}\n' for note in notes]
  json_files.write_text(path.with_suffix('.md'), '\n'.join(parts))


def make_table(
  rows: Mapping[str, Any], titles: Mapping[str, str]
) -> tables.Table:
  """The paper's table of several methods: percent, intervals beneath.

  Rows are `summarise`'s; a group without a title is called by its name.
  """
  counts = {group: len(row['seeds']) for group, row in rows.items()}
  most = max(counts.values(), default=0)
  titles = {
    group: titles.get(group, group)
    + (f' ({n} seed{"s" * (n > 1)})' if n < most else '')
    for group, n in counts.items()
  }
  return dataclasses.replace(_table(rows, titles), caption=_caption(rows))


def markdown_table(rows: Mapping[str, Any], titles: Mapping[str, str]) -> str:
  """The same table as markdown, with the number of seeds in a column."""
  table = _table(rows, titles)
  counts = [tables.Cell(str(len(row['seeds']))) for row in rows.values()]
  lines = [[*row, count] for row, count in zip(table.rows, counts)]
  return tables.Table([*table.headings, 'Seeds'], lines).markdown()


def _caption(rows: Mapping[str, Any]) -> str:
  seeds = max((len(row['seeds']) for row in rows.values()), default=1)
  problems = tables.either(row['mean']['problems'] for row in rows.values())
  parts = [
    f'Percent of {problems} held-out problems',
    tables.notes_of_cells(str(seeds)),
  ]
  if any('gain' in row['mean'] for row in rows.values()):
    parts.append('vs SCoRe: last accuracy less that from the same base policy')
  if any('epochs' in row['mean'] for row in rows.values()):
    parts.append(tables.ABOUT_EPOCHS)
  return '; '.join(parts)


def _table(rows: Mapping[str, Any], titles: Mapping[str, str]) -> tables.Table:
  shown = [n for n in _SHOWN if any(n in row['mean'] for row in rows.values())]
  labels = {group: titles.get(group, group) for group in rows}
  return tables.metric_table(
    {labels[group]: row['mean'] for group, row in rows.items()},
    shown,
    headings=['Method', *[_SHOWN[name] for name in shown]],
    notes={
      labels[group]: tables.epochs(
        [seed.get('epochs') for seed in row['seeds'].values()]
      )
      for group, row in rows.items()
    },
  )
