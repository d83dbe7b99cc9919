"""The page's parts on evaluations that were made beside the run's own.

What `python -m experiments.evaluate` keeps: more attempts, votes and pass@k,
inference scaling, groups of problems, given first attempts, comparisons.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.reporting import markup, numbers, output, paper_results, runs
from score_jax.evaluation import charts, tables

_SEEN = {'all': '', 'last': ', each attempt sees the last one only'}

Found = tuple[runs.Group, runs.Run, Mapping[str, Any], str, Mapping[str, Any]]


def parts(
  groups: Sequence[runs.Group], out: output.Output
) -> list[markup.Html]:
  """One section for each kind of evaluation that there is."""
  sections = [
    part(groups, out)
    for part in (
      _attempts,
      _scaling,
      _several_samples,
      _difficulty,
      _given,
      _comparisons,
    )
  ]
  return [section for section in sections if section]


def _find(groups: Sequence[runs.Group], measure: str) -> Iterator[Found]:
  """(group, run, evaluation, policy, value) wherever a policy has a measure."""
  for group in groups:
    for run in group.runs:
      for evaluation in run.evaluations:
        for policy, measured in evaluation['policies'].items():
          if measure in measured:
            yield group, run, evaluation, policy, measured[measure]


def _conditions(evaluation: Mapping[str, Any], problems: int) -> str:
  """What an evaluation asked, in words."""
  options = evaluation['options']
  decoding = (
    f'temperature {options["temperature"]:g}, {options["samples"]} samples'
    if options['temperature']
    else 'greedy'
  )
  others = [
    f'{flag.replace("_", " ")} {options[flag]}'
    for flag in ('task', 'given_attempts')
    if options.get(flag)
  ]
  source = options['data']['file']
  asked = f'{problems:,} {options["split"]} problems'
  if source:
    asked = f'{problems:,} problems of {source}'
  return ', '.join([asked, decoding, *others])


def _attempts(groups, out) -> markup.Html | None:
  """Accuracy over more attempts than were trained (the paper's Figure 8)."""
  found: dict[str, dict[str, list]] = {}
  conditions: dict[str, str] = {}
  for group, _, evaluation, policy, _ in _find(groups, 'acc_t4'):
    summary = evaluation['policies'][policy]
    held = found.setdefault(evaluation['name'], {})
    held.setdefault(group.name(policy), []).append(summary)
    conditions[evaluation['name']] = (
      _conditions(evaluation, summary['problems'])
      + _SEEN[evaluation['options']['history']]
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
    _papers('figure 8', range(1, 11), paper_results.ATTEMPTS, groups),
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


def _papers(figure, headings, curves, groups) -> markup.Html | None:
  """The paper's curves as a table, for the task that they are of."""
  if groups[0].runs[0].settings.task != 'math':
    return None
  return markup.table(
    [f'The paper ({figure})', *headings],
    [
      [name, *[f'{value:.1f}' for value in values]]
      for name, values in curves.items()
    ],
    caption='Percent, read off a chart by machine, so approximate.',
  )


def _scaling(groups, out) -> markup.Html | None:
  """Votes with and without corrections (the paper's Figure 1, right)."""
  pictures, lines = [], []
  for group, run, evaluation, policy, scaling in _find(groups, 'scaling'):
    name = group.name(policy)
    problems = evaluation['policies'][policy]['problems']
    voters = {'last': 'the second attempts vote', 'all': 'both attempts vote'}
    pictures.append(
      out.picture(
        f'scaling-{len(pictures) + 1}',
        charts.draw_scaling(scaling),
        caption=f'{name}: {_conditions(evaluation, problems)}; in corrected '
        f'episodes {voters[scaling["vote"]]}.',
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
    _papers(
      'figure 1',
      paper_results.SCALING_BUDGETS,
      paper_results.SCALING,
      groups,
    ),
    note='The same number of attempts spent on a problem in two ways: all in '
    'parallel, or half in parallel and then each corrected once. The most '
    'frequent answer counts.',
  )


def _several_samples(groups, out) -> markup.Html | None:
  cells: dict[tuple[str, str], dict[str, Any]] = {}
  caption = ''
  for measure, title in (
    ('pass_at', 'pass@{}'),
    ('majority_at', 'majority of {}'),
  ):
    for group, _, evaluation, policy, by_size in _find(groups, measure):
      problems = evaluation['policies'][policy]['problems']
      caption = caption or _conditions(evaluation, problems)
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


def _difficulty(groups, out) -> markup.Html | None:
  pictures, lines = [], []
  for group, _, evaluation, policy, by in _find(groups, 'by'):
    name = group.name(policy)
    problems = evaluation['policies'][policy]['problems']
    pictures.append(
      out.picture(
        f'difficulty-{len(pictures) + 1}',
        charts.draw_groups(by['groups'], by['column']),
        caption=f'{name}: {_conditions(evaluation, problems)}.',
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
  rows, lines = [], []
  for group, _, evaluation, policy, held in _find(groups, 'changes'):
    source = evaluation['options']['given_attempts']
    if not source:
      continue
    summary = evaluation['policies'][policy]
    rows.append(
      [
        markup.join([group.name(policy), markup.element('small', source)]),
        f'{summary["problems"]:,}',
        numbers.cell('acc_t1', [summary]),
        numbers.cell('acc_t2', [summary]),
        numbers.cell('correction_rate', [held]),
        numbers.cell('spoiling_rate', [held]),
      ]
    )
    lines.append(
      [group.name(policy), source, evaluation['options']['split']]
      + [held.get(n, '') for n in ('correction_rate', 'spoiling_rate')]
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
