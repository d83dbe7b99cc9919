"""The page's parts on evaluations that were made beside the run's own.

What `python -m experiments.evaluate` keeps: more attempts, groups of problems,
given first attempts, comparisons; votes and pass@k are in `sampling`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reporting import (
  between,
  kept,
  markup,
  numbers,
  output,
  paper_results,
  runs,
  sampling,
)
from score_jax.evaluation import charts, tables


def parts(
  groups: Sequence[runs.Group], out: output.Output
) -> list[markup.Html]:
  """One section for each kind of evaluation that there is."""
  sections = [
    part(groups, out)
    for part in (
      _attempts,
      sampling.inference_scaling,
      sampling.several_samples,
      _difficulty,
      _given,
      _comparisons,
    )
  ]
  return [section for section in sections if section]


def _attempts(groups, out) -> markup.Html | None:
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
  return markup.section(
    'More attempts',
    markup.gallery(*pictures),
    *[_attempts_table(conditions[name], held) for name, held in found.items()],
    kept.papers_curves(
      'figure 8', range(1, 11), paper_results.ATTEMPTS, groups
    ),
    note='The same policies, told to look again more often than they were '
    'trained to.',
  )


def _attempts_table(conditions, held) -> markup.Html:
  turns = max(tables.number_of_turns(s) for each in held.values() for s in each)
  rows = [
    [policy, *[numbers.cell(f'acc_t{k}', each) for k in range(1, turns + 1)]]
    for policy, each in held.items()
  ]
  caption = f'Percent, by attempt; {conditions}.'
  return markup.table(['Policy', *range(1, turns + 1)], rows, caption=caption)


def _difficulty(groups, out) -> markup.Html | None:
  pictures, lines = [], []
  for group, _, evaluation, policy, by in kept.find(groups, 'by'):
    name = group.name(policy)
    problems = evaluation['policies'][policy]['problems']
    pictures.append(
      out.picture(
        f'difficulty-{len(pictures) + 1}',
        charts.draw_groups(by['groups'], by['column']),
        caption=f'{name}: {kept.conditions(evaluation, problems)}.',
      )
    )
    for label, held in by['groups'].items():
      metrics = numbers.metrics([held])
      lines += [
        [name, by['column'], label, held['problems'], m, held[m],
         *held[f'{m}_ci95']]
        for m in metrics
      ]  # fmt: skip
  if not pictures:
    return None
  out.table(
    'difficulty',
    ['policy', 'column', 'group', 'problems', 'metric', 'value', 'low', 'high'],
    lines,
  )
  return markup.section('By difficulty', markup.gallery(*pictures))


def _given(groups, out) -> markup.Html | None:
  """Corrections of given first attempts, and of their own (Figure 4)."""
  rows, lines, owned = [], [], set()
  for group, _, evaluation, policy, held in kept.find(groups, 'changes'):
    source = evaluation['options']['given_attempts']
    if not source:
      continue
    name, split = group.name(policy), evaluation['options']['split']
    given = evaluation['policies'][policy]
    found = [(source, split, given, held)]
    if name not in owned:
      owned.add(name)
      own = between.summarize_policy(group, policy)
      found.insert(0, ('its own', 'test', group.summaries(policy)[0], own))
    for whose, which, summary, rates in found:
      rows.append(
        [
          markup.join([name, markup.element('small', f'{whose} ({which})')]),
          f'{summary["problems"]:,}',
          numbers.cell('acc_t1', [summary]),
          numbers.cell('acc_t2', [summary]),
          numbers.cell('correction_rate', [rates]),
          numbers.cell('spoiling_rate', [rates]),
        ]
      )
      lines.append(
        [name, whose, which]
        + [rates.get(n, '') for n in ('correction_rate', 'spoiling_rate')]
      )
  if not rows:
    return None
  out.table(
    'given-attempts',
    ['policy', 'given', 'split', 'correction_rate', 'spoiling_rate'],
    lines,
  )
  headings = [
    'Policy, and whose first attempts',
    'problems',
    'given: right',
    'second: right',
    'of the wrong ones, corrected',
    'of the right ones, spoilt',
  ]
  return markup.section(
    'Given first attempts',
    markup.table(headings, rows, caption='Percent; 95 % intervals beneath.'),
    note='How well a policy corrects attempts that are not its own: where it '
    'does better on these than on its own, it has learnt to correct another '
    "policy (the paper's Figure 4).",
  )


def _comparisons(groups, out) -> markup.Html | None:
  rows, lines = [], []
  metrics = ('acc_t1', 'acc_t2', 'delta', 'i_to_c', 'c_to_i')
  for group in groups:
    for run in group.runs:
      for evaluation in run.evaluations:
        comparison = evaluation.get('comparison', {})
        for policy, tests in comparison.get('tests', {}).items():
          name = f'{group.name(policy)} − {comparison["against"]}'
          rows.append([name, *[_difference(tests.get(m)) for m in metrics]])
          lines += [
            [name, m, tests[m]['difference'], *tests[m]['difference_ci95'],
             tests[m]['p_value']]
            for m in metrics
            if m in tests
          ]  # fmt: skip
  if not rows:
    return None
  headings = ['policy', 'metric', 'difference', 'low', 'high', 'p_value']
  out.table('comparisons', headings, lines)
  return markup.section(
    'Paired comparisons',
    markup.table(
      ['Difference', *numbers.headings(metrics)],
      rows,
      caption='Percentage points, with 95 % interval and two-sided p-value of '
      'a bootstrap over problems.',
    ),
  )


def _difference(test: Mapping[str, Any] | None) -> markup.Html:
  if test is None:
    return markup.Html('–')
  low, high = test['difference_ci95']
  return markup.join(
    [
      f'{100 * test["difference"]:+.1f}',
      markup.element('small', f'{100 * low:+.1f}, {100 * high:+.1f}'),
      markup.element('small', f'p = {test["p_value"]:.2g}'),
    ]
  )
