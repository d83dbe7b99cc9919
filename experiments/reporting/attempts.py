"""The page's part on more attempts than were trained."""

from collections.abc import Sequence

from experiments.reporting import (
  charts,
  kept,
  markup,
  numbers,
  output,
  paper_results,
  runs,
  tables,
)


def more_attempts(
  groups: Sequence[runs.Group], out: output.Output
) -> markup.Html | None:
  """Accuracy over more attempts than were trained (the paper's Figure 8)."""
  found: dict[str, dict[str, list]] = {}
  conditions: dict[str, str] = {}
  for group, _, evaluation, policy, _ in kept.find(groups, 'acc_t4'):
    summary = evaluation['policies'][policy]
    held = found.setdefault(evaluation['name'], {})
    held.setdefault(group.name(policy), []).append(summary)
    conditions[evaluation['name']] = kept.conditions(
      evaluation, summary['problems']
    )
  if not found:
    return None
  pictures = [
    out.picture(
      f'attempts-{i}',
      charts.draw_attempts(held),
      caption=f'Accuracy of each attempt: {conditions[name]}.',
    )
    for i, (name, held) in enumerate(found.items(), start=1)
  ]
  _write(found, out)
  return markup.section(
    'More attempts',
    markup.gallery(*pictures),
    *[_table(conditions[name], held) for name, held in found.items()],
    kept.papers_curves(
      'figure 8', range(1, 11), paper_results.ATTEMPTS, groups
    ),
    note='The same policies, told to look again more often than they were '
    'trained to.',
  )


def _table(conditions, held) -> markup.Html:
  turns = max(tables.number_of_turns(s) for each in held.values() for s in each)
  rows = [
    [policy, *[numbers.cell(f'acc_t{k}', each) for k in range(1, turns + 1)]]
    for policy, each in held.items()
  ]
  caption = f'Percent, by attempt; {conditions}.'
  return markup.table(['Policy', *range(1, turns + 1)], rows, caption=caption)


def _write(found, out) -> None:
  out.table(
    'attempts',
    ['evaluation', 'policy', 'attempt', 'accuracy', 'low', 'high'],
    (
      [name, policy, k, s[f'acc_t{k}'], *s[f'acc_t{k}_ci95']]
      for name, held in found.items()
      for policy, summaries in held.items()
      for s in summaries
      for k in range(1, tables.number_of_turns(s) + 1)
    ),
  )
