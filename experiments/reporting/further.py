"""The page's parts on evaluations that were made beside the run's own.

What `python -m experiments.evaluate` keeps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reporting import (
  attempts,
  charts,
  corrections,
  kept,
  markup,
  numbers,
  output,
  runs,
  sampling,
)


def parts(
  groups: Sequence[runs.Group], out: output.Output
) -> list[markup.Html]:
  """One section for each kind of evaluation that there is."""
  sections = [
    part(groups, out)
    for part in (
      attempts.more_attempts,
      sampling.inference_scaling,
      sampling.several_samples,
      _difficulty,
      corrections.other_problems,
      corrections.given_attempts,
      _comparisons,
    )
  ]
  return [section for section in sections if section]


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
