"""The page's sections on what experiments.evaluate keeps in runs.

Runs of a group that keep the same evaluation are one row, as in the table of
results: their mean and its spread over seeds. It has no interval: kept
evaluations do not say which problems were right.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import pathlib
from typing import Any, NamedTuple

from experiments.reporting import (
  between,
  charts,
  measure_tables,
  page,
  runs,
  tables,
)

_RATES = ('correction_rate', 'spoiling_rate')
_SEEN = {'all': '', 'last': ', each attempt sees the last one only'}
_VOTERS = {'last': 'the second attempts vote', 'all': 'both attempts vote'}


class Found(NamedTuple):
  """A policy's measures in an evaluation that a run keeps."""

  group: runs.Group
  run: runs.Run
  evaluation: Mapping[str, Any]
  policy: str
  measures: tables.Record

  @property
  def name(self) -> str:
    """The policy's name among all groups."""
    return self.group.name(self.policy)

  @property
  def name_with_seed(self) -> str:
    """The name, with the seed where the group has several."""
    seed = f', seed {self.run.settings.seed}'
    return self.name + (seed if len(self.group.runs) > 1 else '')

  @property
  def conditions(self) -> str:
    """The options of experiments.evaluate in words."""
    options, problems = self.evaluation['options'], self.measures['problems']
    asked = f'{problems:,} {options["split"]} problems'
    if options['data']['file']:
      file = pathlib.Path(options['data']['file']).name
      asked = f'{problems:,} problems of {file}'
    said = [asked, 'greedy']
    if options['temperature']:
      said = [asked, f'temperature {options["temperature"]:g}']
      said.append(f'{options["samples"]} samples')
    for name in ('task', 'given_attempts'):
      if options.get(name):
        said.append(f'{name.replace("_", " ")} {options[name]}')
    return ', '.join(said) + _SEEN[options['history']]


# Of one evaluation (its name and conditions): measures by the policy's name,
# one record a seed.
Pooled = dict[tuple[str, str], dict[str, list[tables.Record]]]


def _find(groups: runs.Groups, measure: str) -> Iterator[Found]:
  for group in groups:
    for run in group.runs:
      for evaluation in run.evaluations:
        for policy, measures in evaluation['policies'].items():
          if measure in measures:
            yield Found(group, run, evaluation, policy, measures)


def _pool(
  groups: runs.Groups,
  measure: str,
  is_wanted: Callable[[Found], bool] = lambda found: True,
) -> Pooled:
  pooled: Pooled = {}
  for found in filter(is_wanted, _find(groups, measure)):
    key = found.evaluation['name'], found.conditions
    by_policy = pooled.setdefault(key, {})
    by_policy.setdefault(found.name, []).append(found.measures)
  return pooled


def _means(
  policies: Mapping[str, Sequence[tables.Record]],
) -> dict[str, tables.Record]:
  """One record a policy."""
  return {name: tables.pool(seeds) for name, seeds in policies.items()}


def _with_papers(title: str, groups, *parts) -> page.Section:
  """A section whose parts, if there are any, the paper's tables follow."""
  papers = tables.of_the_paper(title, groups[0].runs[0].settings.task)
  return page.Section(title, [*parts, *papers] if any(parts) else [])


def _more_attempts(groups, out) -> page.Section:
  """Accuracy over more attempts than were trained (the paper's Figure 8)."""
  figures, made, lines = [], [], []
  for (name, conditions), policies in _pool(groups, 'acc_t4').items():
    figure = charts.draw_attempts(policies)
    caption = f'Accuracy of each attempt: {conditions}.'
    figures.append(out.figure(f'attempts-{len(figures) + 1}', figure, caption))
    caption = f'Percent, by attempt; {conditions}.'
    made.append(measure_tables.every_attempt(_means(policies), caption))
    lines += [
      [name, policy, k, seed[f'acc_t{k}'], *seed[f'acc_t{k}_ci95']]
      for policy, seeds in policies.items()
      for seed in seeds
      for k in range(1, tables.number_of_turns(seed) + 1)
    ]
  headings = ['evaluation', 'policy', 'attempt', 'accuracy', 'low', 'high']
  out.table('attempts', headings, lines)
  return _with_papers('More attempts', groups, figures, *made)


def _inference_scaling(groups, out) -> page.Section:
  """Votes with and without corrections (the paper's Figure 1, right)."""
  figures, lines = [], []
  for i, found in enumerate(_find(groups, 'scaling'), start=1):
    scaling = found.measures['scaling']
    caption = f'{found.name_with_seed}: {found.conditions}; of corrected '
    caption += f'episodes {_VOTERS[scaling["vote"]]}.'
    figure = charts.draw_scaling(scaling)
    figures.append(out.figure(f'scaling-{i}', figure, caption))
    start = found.name, found.run.settings.seed, scaling['vote']
    for curve in ('parallel', 'corrected', 'gain'):
      points = zip(scaling['budgets'], scaling[curve], scaling[f'{curve}_ci95'])
      lines += [[*start, curve, k, value, *ci] for k, value, ci in points]
  headings = ['policy', 'seed', 'vote', 'curve', 'budget', 'accuracy']
  out.table('scaling', [*headings, 'low', 'high'], lines)
  return _with_papers('Inference scaling', groups, figures)


def _several_samples(groups, out) -> page.Section:
  """pass@k and majority votes of each turn."""
  made, lines = [], []
  for measure, name in (('pass_at', 'pass@'), ('majority_at', 'majority of ')):
    title = measure_tables.AT_K[measure]
    for (_, conditions), policies in _pool(groups, measure).items():
      held = {n: [m[measure] for m in seeds] for n, seeds in policies.items()}
      caption = f'Percent; {conditions}.'
      means = {name: _means_by_size(seeds) for name, seeds in held.items()}
      made.append(measure_tables.at_k(title, means, caption))
      lines += [
        [policy, turn, f'{name}{k}', *values]
        for policy, seeds in held.items()
        for by_size in seeds
        for k, record in by_size.items()
        for turn, *values in tables.lines([], record)
      ]
  headings = ['policy', 'turn', 'measure', 'value', 'low', 'high']
  out.table('several-samples', headings, lines)
  return page.Section('Several samples', made)


def _means_by_size(
  seeds: Sequence[Mapping[str, tables.Record]],
) -> dict[str, tables.Record]:
  """One record for each number of samples."""
  sizes = dict.fromkeys(k for by_size in seeds for k in by_size)
  return {
    k: tables.pool([by_size[k] for by_size in seeds if k in by_size])
    for k in sizes
  }


def _difficulty(groups, out) -> page.Section:
  """Accuracies by a column of the problems."""
  figures, lines = [], []
  for i, found in enumerate(_find(groups, 'by'), start=1):
    by = found.measures['by']
    caption = f'{found.name_with_seed}: {found.conditions}.'
    figure = charts.draw_groups(by['groups'], by['column'])
    figures.append(out.figure(f'difficulty-{i}', figure, caption))
    for label, held in by['groups'].items():
      start = found.name, by['column'], label, held['problems']
      lines += tables.lines(start, held, tables.columns([held]))
  headings = ['policy', 'column', 'group', 'problems', 'metric', 'value']
  out.table('difficulty', [*headings, 'low', 'high'], lines)
  return page.Section('By difficulty', [figures])


def _is_of_other_problems(found: Found) -> bool:
  options = found.evaluation['options']
  if options['given_attempts']:
    return False
  is_other = options['task'] or options['data']['file']
  return bool(is_other) or options['split'] == 'train'


def _other_problems(groups, out) -> page.Section:
  """The five metrics on other tasks, a user's problems, training problems."""
  made, lines = [], []
  pooled = _pool(groups, 'acc_t1', _is_of_other_problems)
  for (name, conditions), policies in pooled.items():
    caption = f'Percent; {conditions}.'
    made.append(tables.metric_table(_means(policies), tables.METRICS, caption))
    for policy, seeds in policies.items():
      for seed in seeds:
        lines += tables.lines([policy, name], seed, tables.METRICS)
  headings = ['policy', 'evaluation', 'metric', 'value', 'low', 'high']
  out.table('other-problems', headings, lines)
  return page.Section('Other problems', made)


def _given_attempts(groups, out) -> page.Section:
  """Corrections of off-policy first attempts beside its own (Figure 4)."""
  # Summaries and rates by policy, whose attempts, and split: one a seed, but of
  # its own attempts all seeds' together.
  pooled: dict[tuple[str, str, str], tuple[list, list]] = {}
  for found in _find(groups, 'changes'):
    options = found.evaluation['options']
    if not options['given_attempts']:
      continue
    own = found.group.row(found.policy)
    key = found.name, 'its own', 'test'
    if own.runs and key not in pooled:
      pooled[key] = [own.pooled()], [between.pool(between.summarize(own))]
    key = found.name, options['given_attempts'], options['split']
    summaries, rates = pooled.setdefault(key, ([], []))
    summaries.append(found.measures)
    rates.append(found.measures['changes'])
  rows, lines = [], []
  for (name, whose, split), (summaries, rates) in pooled.items():
    row = [tables.Cell(name, f'{whose} ({split})')]
    row.append(tables.Cell(f'{summaries[0]["problems"]:,}'))
    held = tables.pool(summaries), tables.pool(rates)
    row += [tables.cell(f'acc_t{turn}', held[0]) for turn in (1, 2)]
    rows.append(row + [tables.cell(rate, held[1]) for rate in _RATES])
    lines += [
      [name, whose, split, *[record.get(rate, '') for rate in _RATES]]
      for record in rates
    ]
  out.table('given-attempts', ['policy', 'given', 'split', *_RATES], lines)
  headings = ['Policy, and whose first attempts', 'problems', 'first: right']
  headings.append('second: right')
  headings += [measure_tables.SHARES[rate] for rate in _RATES]
  table = tables.Table(headings, rows, caption='Percent.')
  return page.Section('Given first attempts', [table] if rows else [])


def _comparisons(groups, out) -> page.Section:
  """Paired tests of policies against another one."""
  rows, lines = [], []
  for found in _find(groups, 'acc_t1'):
    comparison = found.evaluation.get('comparison', {'tests': {}})
    tests = comparison['tests'].get(found.policy)
    if tests is None:
      continue
    against = comparison['against']
    label = tables.Cell(f'{found.name_with_seed} − {against}', found.conditions)
    rows.append([label, *measure_tables.differences(tests)])
    for metric in filter(tests.get, tables.METRICS):
      test = tests[metric]
      numbers = test['difference'], *test['difference_ci95'], test['p_value']
      lines.append([f'{found.name} − {against}', metric, *numbers])
  headings = ['policy', 'metric', 'difference', 'low', 'high', 'p_value']
  out.table('comparisons', headings, lines)
  table = tables.Table(
    ['Difference', *map(tables.heading, tables.METRICS)],
    rows,
    caption='Percentage points, with 95 % interval and two-sided p-value of a '
    'bootstrap over problems.',
  )
  return page.Section('Paired comparisons', [table] if rows else [])


# One kind of evaluation each: functions of groups and the page's output, whose
# section may be without parts.
SECTIONS = (
  _more_attempts,
  _inference_scaling,
  _several_samples,
  _difficulty,
  _other_problems,
  _given_attempts,
  _comparisons,
)
