"""The page's part on what happens between the attempts."""

from collections.abc import Mapping, Sequence
import itertools
from typing import Any, NamedTuple

import numpy as np

from experiments.reporting import charts, measure_tables, page, runs, tables
from score_jax.evaluation import changes
from score_jax.tasks import registry

_MOST_HISTOGRAMS = 5


class Changes(NamedTuple):
  """What became of one run's first attempts.

  Attributes:
    seed: the run's.
    summary: `changes.summarize`, and `steps` from each turn to the next.
    values: `changes.problem_columns`, by problem.
  """

  seed: int
  summary: Mapping[str, Any]
  values: tables.Values


def between_attempts(groups: runs.Groups, out: page.Output) -> page.Section:
  """Transitions, changed answers and edit distances: means over seeds."""
  found = {row.label: summarize(row) for row in runs.table_rows(groups)}
  found = {label: seeds for label, seeds in found.items() if seeds}
  if not found:
    return page.Section('Between the attempts', [])
  # Outlines of more policies could not be told apart: the first and the last.
  labels = list(found)
  if len(labels) > _MOST_HISTOGRAMS:
    labels = labels[:1] + labels[1 - _MOST_HISTOGRAMS :]
  figures = [
    *_transition_figures(found, out),
    out.figure(
      'edit-ratios',
      charts.draw_edit_ratios({n: _histogram(found[n]) for n in labels}),
      'How much the second attempt rewrites the first: 0 repeats it, 1 has '
      'nothing in common with it. Insertions and deletions of characters over '
      'the length of both.',
    ),
  ]
  _write_tables(found, out)
  parts = [figures, _table(found)]
  return page.Section('Between the attempts', parts)


def summarize(row: runs.Row) -> list[Changes]:
  """Each run's changes; of those with an episode of two graded attempts."""
  found = []
  for run in row.runs:
    key = registry.answer_key(run.settings.task, run.settings.data.grader)
    episodes = [
      episode
      for episode in run.episodes(row.policy)
      if len(episode.attempts) > 1 and runs.is_graded(episode)
    ]
    if not episodes:
      continue
    texts = [(e.attempts[0].text, e.attempts[1].text) for e in episodes]
    keys = [tuple(key(e.problem, a) for a in e.attempts[:2]) for e in episodes]
    correct = runs.correct(episodes)
    steps = [
      changes.transition_counts(correct, k, k + 1)
      for k in range(1, correct.shape[1])
    ]
    ids = [episode.problem.id for episode in episodes]
    values = {
      name: dict(zip(ids, column.tolist(), strict=True))
      for name, column in changes.problem_columns(texts, keys, correct).items()
    }
    summary = changes.summarize(texts, keys, correct) | {'steps': steps}
    found.append(Changes(run.settings.seed, summary, values))
  return found


def pool(seeds: Sequence[Changes]) -> dict[str, Any]:
  """Shares and rates of all seeds, see `tables.pool`."""
  return tables.pool(
    [seed.summary for seed in seeds], [seed.values for seed in seeds]
  )


def _mean_counts(seeds: Sequence[Changes], step: int) -> dict[str, float]:
  """Numbers of problems by outcome at a step, mean of the seeds."""
  steps = [s.summary['steps'][step] for s in seeds]
  return {o: float(np.mean([each[o] for each in steps])) for o in steps[0]}


def _histogram(seeds: Sequence[Changes]) -> dict[str, Sequence[float]]:
  """The edit ratios of all seeds: their densities are averaged."""
  held = [seed.summary['edit_ratio_histogram'] for seed in seeds]
  counts = np.mean([histogram['counts'] for histogram in held], axis=0)
  return {'edges': held[0]['edges'], 'counts': counts.tolist()}


def _transition_figures(
  found: Mapping[str, Sequence[Changes]], out: page.Output
):
  """A figure of each step from one turn to the next."""
  turns = {
    name: len(seeds[0].summary['steps']) for name, seeds in found.items()
  }
  for k in range(max(turns.values())):
    counts = {
      name: _mean_counts(seeds, k)
      for name, seeds in found.items()
      if k < turns[name]
    }
    yield out.figure(
      f'transitions-{k + 1}-{k + 2}',
      charts.draw_transitions(counts),
      f'From attempt {k + 1} to attempt {k + 2}.',
    )


def _table(found: Mapping[str, Sequence[Changes]]) -> tables.Table:
  shares = measure_tables.changes({n: pool(s) for n, s in found.items()})
  counts = [
    [tables.Cell(f'{n:,.0f}') for n in _mean_counts(seeds, 0).values()]
    for seeds in found.values()
  ]
  beneath = tables.notes_of_cells(tables.either(map(len, found.values())))
  return tables.Table(
    ['Policy', *charts.OUTCOME_LABELS.values(), *shares.headings[1:]],
    [[row[0], *n, *row[1:]] for row, n in zip(shares.rows, counts)],
    caption=f'Numbers of problems, then percent; {beneath}.',
  )


def _write_tables(
  found: Mapping[str, Sequence[Changes]], out: page.Output
) -> None:
  each = [(name, seed) for name, seeds in found.items() for seed in seeds]
  steps = [
    [name, run.seed, k, k + 1, *step.values()]
    for name, run in each
    for k, step in enumerate(run.summary['steps'], start=1)
  ]
  headings = ['policy', 'seed', 'from_turn', 'to_turn', *changes.OUTCOMES]
  out.table('transitions', headings, steps)
  shares = [
    [name, run.seed, *[run.summary.get(s, '') for s in measure_tables.SHARES]]
    for name, run in each
  ]
  out.table('changes', ['policy', 'seed', *measure_tables.SHARES], shares)
  bins = [
    [name, run.seed, *edges, count]
    for name, run in each
    for histogram in [run.summary['edit_ratio_histogram']]
    for edges, count in zip(
      itertools.pairwise(histogram['edges']), histogram['counts']
    )
  ]
  headings = ['policy', 'seed', 'low', 'high', 'count']
  out.table('edit-ratios', headings, bins)
