"""The page's parts on many samples: inference scaling, votes, pass@k."""

from collections.abc import Sequence
from typing import Any

from experiments.reporting import (
  charts,
  kept,
  markup,
  numbers,
  output,
  paper_results,
  runs,
)


def inference_scaling(
  groups: Sequence[runs.Group], out: output.Output
) -> markup.Html | None:
  """Votes with and without corrections (the paper's Figure 1, right)."""
  pictures, lines = [], []
  for group, run, evaluation, policy, scaling in kept.find(groups, 'scaling'):
    name = group.name(policy)
    problems = evaluation['policies'][policy]['problems']
    voters = {'last': 'the second attempts vote', 'all': 'both attempts vote'}
    pictures.append(
      out.picture(
        f'scaling-{len(pictures) + 1}',
        charts.draw_scaling(scaling),
        caption=f'{name}: {kept.conditions(evaluation, problems)}; of '
        f'corrected episodes {voters[scaling["vote"]]}.',
      )
    )
    for curve in ('parallel', 'corrected', 'gain'):
      lines += [
        [name, run.settings.seed, scaling['vote'], curve, *line]
        for line in zip(
          scaling['budgets'], scaling[curve], scaling[f'{curve}_ci95']
        )
      ]
  if not pictures:
    return None
  out.table(
    'scaling',
    ['policy', 'seed', 'vote', 'curve', 'budget', 'accuracy', 'low', 'high'],
    ([*line[:-1], *line[-1]] for line in lines),
  )
  return markup.section(
    'Inference scaling',
    markup.gallery(*pictures),
    kept.papers_curves(
      'figure 1',
      paper_results.SCALING_BUDGETS,
      paper_results.SCALING,
      groups,
    ),
    note='The same number of attempts spent on a problem in two ways: all in '
    'parallel, or half in parallel and then each corrected once. The most '
    'frequent answer counts.',
  )


def several_samples(
  groups: Sequence[runs.Group], out: output.Output
) -> markup.Html | None:
  """pass@k and majority votes of each turn."""
  cells: dict[tuple[str, str], dict[str, Any]] = {}
  caption = ''
  for measure, title in (
    ('pass_at', 'pass@{}'),
    ('majority_at', 'majority of {}'),
  ):
    for group, _, evaluation, policy, by_size in kept.find(groups, measure):
      problems = evaluation['policies'][policy]['problems']
      caption = caption or kept.conditions(evaluation, problems)
      for size, held in by_size.items():
        for turn in (name for name in held if not name.endswith('_ci95')):
          row = cells.setdefault((group.name(policy), turn), {})
          row[title.format(size)] = held
  if not cells:
    return None
  titles = list(dict.fromkeys(title for row in cells.values() for title in row))
  out.table(
    'several-samples',
    ['policy', 'turn', 'measure', 'value', 'low', 'high'],
    (
      [name, turn, title, held[turn], *held[f'{turn}_ci95']]
      for (name, turn), row in cells.items()
      for title, held in row.items()
    ),
  )
  rows = [
    [f'{name}, turn {turn.removeprefix("t")}']
    + [numbers.cell(turn, [row.get(title, {})]) for title in titles]
    for (name, turn), row in cells.items()
  ]
  return markup.section(
    'Several samples',
    markup.table(['Policy', *titles], rows, caption=f'Percent; {caption}.'),
    note='pass@k: at least one of k samples is right (unbiased estimate). '
    'Majority: the most frequent answer is right.',
  )
