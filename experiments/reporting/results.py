"""The page's first parts: the numbers, the paper's, the learning curves."""

from collections.abc import Sequence

from experiments import methods
from experiments.reporting import (
  charts,
  page,
  plots,
  runs,
  tables,
)

# Fewer policies are as easily read off the table.
_FEWEST_DRAWN = 4
# Of longer episodes the table has accuracies alone.
_MOST_TURNS = 3
# Metrics that curves.csv has.
_IN_FILE = ('score/', 'kl/', 'reward/', 'eval/')


def tiles(groups: runs.Groups) -> dict[str, tuple[tables.Cell, tables.Cell]]:
  """The headline group's metrics: of its last policy, and of the base policy.

  A metric without a value is left out; the base policy's may be missing.
  """
  group = runs.headline(groups)
  is_trained = group.last_policy != methods.BASE
  base = group.row(methods.BASE).summaries if is_trained else []
  base, last = (
    tables.pool(held) for held in (base, group.row(group.last_policy).summaries)
  )
  return {
    name: (tables.cell(name, last), tables.cell(name, base))
    for name in tables.METRICS
    if name in last
  }


def results(groups: runs.Groups, out: page.Output) -> page.Section:
  """The paper's table of all policies, and the paper's own."""
  rows = runs.table_rows(groups)
  summaries = [summary for row in rows for summary in row.summaries]
  names = tables.columns(summaries)
  if max(map(tables.number_of_turns, summaries)) > _MOST_TURNS:
    names = [name for name in names if name.startswith('acc_t')]
  headings = ['group', 'run', 'seed', 'policy', 'metric', 'value', 'low']
  lines = [
    [group.label, run.directory.place, run.settings.seed, policy, *line]
    for group in groups
    for run in group.runs
    for policy, summary in run.results.items()
    for line in tables.lines([], summary)
  ]
  out.table('results', [*headings, 'high'], lines)
  rules = {group.runs[0].settings.correct_from_reward for group in groups}
  # Where groups differ in it, the page says so of each.
  rule = tables.rule(rules.pop() if len(rules) == 1 else None)
  pooled = {row.label: row.pooled() for row in rows}
  epochs = {row.label: row.epochs() for row in rows}
  caption = _caption(rows, rule, any(epochs.values()))
  parts = [tables.metric_table(pooled, names, caption, notes=epochs)]
  rewards = tables.rewards(pooled)
  if rewards:
    parts.append(rewards)
  if len(rows) >= _FEWEST_DRAWN and len(names) > 1:
    figure = charts.draw_turns({row.label: row.summaries for row in rows})
    caption = 'Accuracy of the first and of the last attempt.'
    parts.append([out.figure('turns', figure, caption)])
  papers = tables.of_the_paper('Results', groups[0].runs[0].settings.task)
  return page.Section('Results', [*parts, *papers])


def _caption(rows: Sequence[runs.Row], rule: str, has_epochs: bool) -> str:
  problems = tables.either(s['problems'] for row in rows for s in row.summaries)
  seeds = tables.either(len(row.runs) for row in rows)
  caption = f'Percent of {problems} held-out problems, greedy; '
  caption += tables.notes_of_cells(seeds) + rule
  if has_epochs:
    caption += f'; {tables.ABOUT_EPOCHS}'
  return f'{caption}.'


def curves(groups: runs.Groups, out: page.Output) -> page.Section:
  """Accuracy of each turn over training: a plot a group, of its first seed."""
  drawn = [group for group in groups if group.runs[0].learning_curve[0]]
  is_alone = len(drawn) == 1
  figures = []
  for i, group in enumerate(drawn, start=1):
    run = group.runs[0]
    records, points = run.learning_curve
    caption = 'Accuracy of each turn, update by update'
    if not is_alone:
      caption = group.name(group.last_policy)
    if len(group.runs) > 1:
      caption += f', seed {run.settings.seed}'
    figure = plots.draw_learning_curves(
      records,
      evaluations=points,
      size=(6.4, 3.8) if is_alone else (5.2, 3.6),
    )
    name = f'curves-{i}'
    figures.append(out.figure(name, figure, f'{caption}.', is_wide=is_alone))
  lines = [
    (run.directory.place, record['stage'], record['step'], name, value)
    for group in groups
    for run in group.runs
    for record in run.learning_curve[0]
    for name, value in record.items()
    if name.startswith(_IN_FILE)
  ]
  out.table('curves', ['run', 'stage', 'step', 'metric', 'value'], lines)
  return page.Section('Learning curves', [figures])
