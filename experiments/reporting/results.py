"""The page's first part: the numbers, the paper's beside them, the curves."""

from collections.abc import Sequence
import functools

from experiments.reporting import (
  charts,
  markup,
  numbers,
  output,
  paper_results,
  plots,
  runs,
)

# Fewer policies are as easily read off the table.
_FEWEST_DRAWN = 4


def tiles(groups: Sequence[runs.Group]) -> markup.Html:
  """What came out, in a few large numbers: SCoRe's, or the first group's."""
  group = runs.headline(groups)
  last = group.last_policy
  base = group.summaries('base')
  summaries = group.summaries(last)
  shown = [
    ('acc_t1', 'right at the first attempt'),
    ('acc_t2', 'right at the second'),
    ('delta', 'gained by looking again'),
    ('i_to_c', 'corrected'),
    ('c_to_i', 'spoilt'),
  ]
  return markup.element(
    'div',
    *[
      markup.element(
        'div',
        markup.element('b', _percent(name, summaries)),
        markup.element('span', label, _before(name, base, last)),
        class_='tile',
      )
      for name, label in shown
      if name in summaries[0]
    ],
    class_='tiles',
  )


def _percent(name, summaries) -> str:
  mean = sum(summary[name] for summary in summaries) / len(summaries)
  sign = '+' if name == 'delta' else ''
  return f'{100 * mean:{sign}.1f} %'


def _before(name, base, last) -> str:
  if not base or last == 'base' or name not in base[0]:
    return ''
  return f' (base: {_percent(name, base)})'


def results(groups: Sequence[runs.Group], out: output.Output) -> markup.Html:
  """The paper's table of all policies, and the paper's own."""
  rows = [(label, held) for label, *_, held in runs.table_rows(groups)]
  names = numbers.metrics([s for _, held in rows for s in held])
  problems = sorted({s['problems'] for _, held in rows for s in held})
  counts = ' or '.join(f'{count:,}' for count in problems)
  seeds = sorted({len(held) for _, held in rows})
  spread = '95 % bootstrap intervals beneath'
  if seeds[-1] > 1:
    counts_of = ' or '.join(map(str, seeds))
    spread = f'mean ± standard deviation over {counts_of} seeds'
  table = markup.table(
    ['Policy', *numbers.headings(names)],
    [
      [label, *[numbers.cell(name, held) for name in names]]
      for label, held in rows
    ],
    caption=f'Percent of {counts} held-out problems, greedy; {spread}.',
  )
  out.table(
    'results',
    ['group', 'run', 'seed', 'policy', 'metric', 'value', 'low', 'high'],
    _lines(groups),
  )
  picture = None
  if len(rows) >= _FEWEST_DRAWN and len(names) > 1:
    picture = out.picture(
      'turns',
      charts.draw_turns(dict(rows)),
      caption='Accuracy of the first and of the last attempt.',
    )
  return markup.section(
    'Results',
    table,
    picture,
    *_papers_own(groups[0].runs[0].settings.task),
    note='Δ i→c: wrong, then right; Δ c→i: right, then wrong; both of all '
    'problems, so that Δ(t1,t2) is their difference.',
  )


def _lines(groups):
  for group in groups:
    for run in group.runs:
      for policy, summary in run.results.items():
        for name, value in summary.items():
          if name.endswith('_ci95'):
            continue
          bounds = summary.get(f'{name}_ci95', ('', ''))
          path = str(run.directory.path)
          seed = run.settings.seed
          yield group.label, path, seed, policy, name, value, *bounds


def _papers_own(task: str) -> list[markup.Html]:
  found = []
  for table in paper_results.tables_for(task):
    rows = [
      [name, *['–' if v is None else f'{v:.1f}' for v in values]]
      for name, values in table.rows.items()
    ]
    found += [
      markup.element('h3', f'The paper: {table.title}'),
      markup.table(
        ['Method', *table.headings],
        rows,
        caption=f'Kumar et al., ICLR 2025, {table.source}; percent.',
      ),
    ]
  return found


def curves(
  groups: Sequence[runs.Group], out: output.Output
) -> markup.Html | None:
  """Accuracy of each turn over training; one picture a group."""
  firsts = [(group, group.runs[0]) for group in groups]
  drawn = [(group, run) for group, run in firsts if run.learning_curve[0]]
  if not drawn:
    return None
  pictures = []
  for i, (group, run) in enumerate(drawn, start=1):
    records, points = run.learning_curve
    label = 'Accuracy of each turn, update by update.'
    if len(drawn) > 1:
      label = group.name(group.last_policy)
    if len(group.runs) > 1:
      label += f', seed {run.settings.seed}'
    sizes = [(9.0, 4.8), (5.2, 3.9)] if len(drawn) == 1 else [(5.2, 3.6)]
    draw = functools.partial(
      plots.draw_learning_curves,
      records,
      evaluations=points,
      evaluation_label='held-out, greedy',
    )
    pictures.append(
      out.picture(
        f'curves-{i}', *[draw(size=size) for size in sizes], caption=label
      )
    )
  _write_curves(groups, out)
  temperature = groups[0].runs[0].settings.temperature
  return markup.section(
    'Learning curves',
    pictures[0] if len(pictures) == 1 else markup.gallery(*pictures),
    note=f'Thin lines: updates, at temperature {temperature:g}; heavy lines: '
    'their moving average; points: held-out problems, greedy, with 95 % '
    'intervals where a stage ends.',
  )


def _write_curves(groups, out) -> None:
  out.table(
    'curves',
    ['run', 'stage', 'step', 'metric', 'value'],
    (
      (run.directory.path, record['stage'], record['step'], name, value)
      for group in groups
      for run in group.runs
      for record in run.learning_curve[0]
      for name, value in record.items()
      if name.startswith(('score/', 'kl/', 'reward/', 'eval/'))
    ),
  )
