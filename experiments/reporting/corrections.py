"""The page's parts on problems and first attempts that are not a run's own."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from experiments.reporting import between, kept, markup, numbers, output, runs

_RATES = ('correction_rate', 'spoiling_rate')
_METRICS = ('acc_t1', 'acc_t2', 'delta', 'i_to_c', 'c_to_i')


def other_problems(
  groups: Sequence[runs.Group], out: output.Output
) -> markup.Html | None:
  """The five metrics on other tasks, a user's problems, training problems."""
  rows, lines = [], []
  for group, _, evaluation, policy, _ in kept.find(groups, 'acc_t1'):
    options = evaluation['options']
    is_other = options['task'] or options['data']['file']
    if options['given_attempts'] or not (
      is_other or options['split'] == 'train'
    ):
      continue
    summary = evaluation['policies'][policy]
    name = group.name(policy)
    conditions = kept.conditions(evaluation, summary['problems'])
    rows.append(
      [markup.join([name, markup.element('small', conditions)])]
      + [numbers.cell(metric, [summary]) for metric in _METRICS]
    )
    lines += [
      [name, evaluation['name'], m, summary[m], *summary[f'{m}_ci95']]
      for m in _METRICS
      if m in summary
    ]
  if not rows:
    return None
  headings = ['policy', 'evaluation', 'metric', 'value', 'low', 'high']
  out.table('other-problems', headings, lines)
  return markup.section(
    'Other problems',
    markup.table(
      ['Policy, and on what', *numbers.headings(_METRICS)],
      rows,
      caption='Percent; 95 % intervals beneath.',
    ),
  )


class _Corrections(NamedTuple):
  """One policy's corrections of someone's first attempts."""

  policy: str
  whose: str
  split: str
  summary: Any
  rates: Any


def given_attempts(
  groups: Sequence[runs.Group], out: output.Output
) -> markup.Html | None:
  """Corrections of given first attempts beside those of its own (Figure 4)."""
  found = list(_find(groups))
  if not found:
    return None
  out.table(
    'given-attempts',
    ['policy', 'given', 'split', *_RATES],
    ([*c[:3], *[c.rates.get(rate, '') for rate in _RATES]] for c in found),
  )
  rows = [
    [
      markup.join(
        [c.policy, markup.element('small', f'{c.whose} ({c.split})')]
      ),
      f'{c.summary["problems"]:,}',
      numbers.cell('acc_t1', [c.summary]),
      numbers.cell('acc_t2', [c.summary]),
      *[numbers.cell(rate, [c.rates]) for rate in _RATES],
    ]
    for c in found
  ]
  headings = [
    'Policy, and whose first attempts',
    'problems',
    'first: right',
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


def _find(groups: Sequence[runs.Group]) -> Iterator[_Corrections]:
  """Each policy's own attempts first, once, then those it was given."""
  seen = set()
  for group, _, evaluation, policy, rates in kept.find(groups, 'changes'):
    options = evaluation['options']
    if not options['given_attempts']:
      continue
    name = group.name(policy)
    own = group.summaries(policy)
    if name not in seen and own:
      seen.add(name)
      its = between.summarize_policy(group, policy)
      yield _Corrections(name, 'its own', 'test', own[0], its)
    yield _Corrections(
      name,
      options['given_attempts'],
      options['split'],
      evaluation['policies'][policy],
      rates,
    )
