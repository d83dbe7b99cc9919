"""Evaluations that runs keep, as the page's parts look for them."""

from collections.abc import Iterator, Mapping, Sequence
import pathlib
from typing import Any

from experiments.reporting import markup, runs

Found = tuple[runs.Group, runs.Run, Mapping[str, Any], str, Any]
_SEEN = {'all': '', 'last': ', each attempt sees the last one only'}


def find(groups: Sequence[runs.Group], measure: str) -> Iterator[Found]:
  """(group, run, evaluation, policy, value) wherever a policy has a measure."""
  for group in groups:
    for run in group.runs:
      for evaluation in run.evaluations:
        for policy, measured in evaluation['policies'].items():
          if measure in measured:
            yield group, run, evaluation, policy, measured[measure]


def conditions(evaluation: Mapping[str, Any], problems: int) -> str:
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
    asked = f'{problems:,} problems of {pathlib.Path(source).name}'
  seen = _SEEN[options['history']]
  return ', '.join([asked, decoding, *others]) + seen


def papers_curves(figure, headings, curves, groups) -> markup.Html | None:
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
