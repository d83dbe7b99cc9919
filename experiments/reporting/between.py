"""The page's part on what happens between the attempts."""

from collections.abc import Mapping
import itertools
from typing import Any

import numpy as np

from experiments.reporting import charts, measure_tables, page, runs, tables
from score_jax.evaluation import changes
from score_jax.tasks import registry

_MOST_HISTOGRAMS = 5


def between_attempts(groups: runs.Groups, out: page.Output) -> page.Section:
  """Transitions, changed answers and edit distances, of all seeds pooled."""
  summaries = {
    label: summary
    for label, group, policy, _ in runs.table_rows(groups)
    if (summary := summarize_policy(group, policy))
  }
  if not summaries:
    return page.Section('Between the attempts', [])
  # Outlines of more policies could not be told apart: the first and the last.
  labels = list(summaries)
  if len(labels) > _MOST_HISTOGRAMS:
    labels = labels[:1] + labels[1 - _MOST_HISTOGRAMS :]
  histograms = {n: summaries[n]['edit_ratio_histogram'] for n in labels}
  figures = [
    *_transition_figures(summaries, out),
    out.figure(
      'edit-ratios',
      charts.draw_edit_ratios(histograms),
      'How much the second attempt rewrites the first: 0 repeats it, 1 has '
      'nothing in common with it. Insertions and deletions of characters over '
      'the length of both.',
    ),
  ]
  _write_tables(summaries, out)
  parts = [figures, _table(summaries)]
  return page.Section('Between the attempts', parts)


def summarize_policy(group: runs.Group, policy: str) -> dict[str, Any]:
  """`changes.summarize` over all seeds, and `steps` from each turn to the next.

  Empty without an episode of two graded attempts.
  """
  settings = group.runs[0].settings
  key = registry.answer_key(settings.task, settings.data.grader)
  episodes = [
    episode
    for run in group.runs
    if policy in run.results
    for episode in run.episodes(policy)
    if len(episode.attempts) > 1
    and all(verdict.score is not None for verdict in episode.verdicts)
  ]
  if not episodes:
    return {}
  correct = np.array([[v.score >= 0.5 for v in e.verdicts] for e in episodes])
  summary = changes.summarize(
    [(e.attempts[0].text, e.attempts[1].text) for e in episodes],
    [tuple(key(e.problem, a) for a in e.attempts[:2]) for e in episodes],
    correct,
  )
  steps = [
    changes.transition_counts(correct, k, k + 1)
    for k in range(1, correct.shape[1])
  ]
  return summary | {'steps': steps}


def _transition_figures(summaries: Mapping[str, Any], out: page.Output):
  """A figure of each step from one turn to the next."""
  turns = max(len(summary['steps']) for summary in summaries.values())
  for k in range(turns):
    steps = {
      name: summary['steps'][k]
      for name, summary in summaries.items()
      if k < len(summary['steps'])
    }
    yield out.figure(
      f'transitions-{k + 1}-{k + 2}',
      charts.draw_transitions(steps),
      f'From attempt {k + 1} to attempt {k + 2}.',
    )


def _table(summaries: Mapping[str, Any]) -> tables.Table:
  shares = measure_tables.changes({n: [s] for n, s in summaries.items()})
  counts = [
    [tables.Cell(f'{s["transitions"][o]:,}') for o in changes.OUTCOMES]
    for s in summaries.values()
  ]
  return tables.Table(
    ['Policy', *charts.OUTCOME_LABELS.values(), *shares.headings[1:]],
    [[row[0], *n, *row[1:]] for row, n in zip(shares.rows, counts)],
    caption='Numbers of problems, then percent.',
  )


def _write_tables(summaries: Mapping[str, Any], out) -> None:
  steps = [
    [name, k, k + 1, *[step[outcome] for outcome in changes.OUTCOMES]]
    for name, summary in summaries.items()
    for k, step in enumerate(summary['steps'], start=1)
  ]
  headings = ['policy', 'from_turn', 'to_turn', *changes.OUTCOMES]
  out.table('transitions', headings, steps)
  shares = [
    [name, *[summary.get(share, '') for share in measure_tables.SHARES]]
    for name, summary in summaries.items()
  ]
  out.table('changes', ['policy', *measure_tables.SHARES], shares)
  bins = [
    [name, *edges, count]
    for name, summary in summaries.items()
    for histogram in [summary['edit_ratio_histogram']]
    for edges, count in zip(
      itertools.pairwise(histogram['edges']), histogram['counts']
    )
  ]
  out.table('edit-ratios', ['policy', 'low', 'high', 'count'], bins)
