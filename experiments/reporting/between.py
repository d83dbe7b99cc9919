"""The page's part on what happens between the attempts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.reporting import charts, markup, numbers, output, runs
from experiments.run import transcripts
from score_jax.evaluation import changes
from score_jax.tasks import answer_keys, registry

_SHARES = {
  'changed_answer': 'answer changed',
  'frac_identical': 'text identical',
  'correction_rate': 'of the wrong ones, corrected',
  'spoiling_rate': 'of the right ones, spoilt',
}
_MOST_HISTOGRAMS = 5


def between_attempts(
  groups: Sequence[runs.Group], out: output.Output
) -> markup.Html | None:
  """Transitions, changed answers, edit-distance ratios, of pooled seeds."""
  found = _summaries(groups)
  if not found:
    return None
  chosen = _few(found)
  pictures = markup.gallery(
    *_transitions(found, out),
    out.picture(
      'edit-ratios',
      charts.draw_edit_ratios(
        {name: found[name]['edit_ratio_histogram'] for name in chosen}
      ),
      caption='How much the second attempt rewrites the first: 0 repeats it, '
      '1 has nothing in common with it. Insertions and deletions of characters '
      'over the length of both.',
    ),
  )
  rows = [
    [
      name,
      *[f'{held["transitions"][outcome]:,}' for outcome in changes.OUTCOMES],
      *[numbers.cell(share, [held]) for share in _SHARES],
      f'{held["edit_distance_ratio"]:.3f}',
    ]
    for name, held in found.items()
  ]
  headings = [
    'Policy',
    *[charts.OUTCOME_LABELS[outcome] for outcome in changes.OUTCOMES],
    *_SHARES.values(),
    'mean edit ratio',
  ]
  table = markup.table(
    headings, rows, caption='Numbers of problems, then percent.'
  )
  _write(found, out)
  return markup.section('Between the attempts', pictures, table)


def _transitions(found: dict[str, Any], out: output.Output):
  """A picture of each step from one turn to the next."""
  turns = max(len(held['steps']) for held in found.values())
  for k in range(turns):
    steps = {
      name: held['steps'][k]
      for name, held in found.items()
      if k < len(held['steps'])
    }
    yield out.picture(
      f'transitions-{k + 1}-{k + 2}',
      charts.draw_transitions(steps),
      caption=f'What became of attempt {k + 1} at attempt {k + 2}.',
    )


def _few(found: dict[str, Any]) -> list[str]:
  """The first and the last of many: outlines of all could not be told apart."""
  names = list(found)
  if len(names) <= _MOST_HISTOGRAMS:
    return names
  return names[:1] + names[1 - _MOST_HISTOGRAMS :]


def _summaries(groups: Sequence[runs.Group]) -> dict[str, dict[str, Any]]:
  found = {
    label: summarize_policy(group, policy)
    for label, group, policy, _ in runs.table_rows(groups)
  }
  return {label: held for label, held in found.items() if held}


def summarize_policy(group: runs.Group, policy: str) -> dict[str, Any]:
  """`changes.summarize` over all seeds, with the `steps` between all turns.

  Nothing where no episode of two attempts was graded.
  """
  settings = group.runs[0].settings
  key = registry.answer_key(settings.task, settings.data.grader)
  episodes = [
    episode
    for run in group.runs
    if policy in run.results
    for episode in run.episodes(policy)
    if _is_whole(episode)
  ]
  return _summarize(episodes, key) if episodes else {}


def _is_whole(episode: transcripts.Episode) -> bool:
  return len(episode.attempts) > 1 and all(
    verdict.score is not None for verdict in episode.verdicts
  )


def _summarize(
  episodes: Sequence[transcripts.Episode], key: answer_keys.AnswerKey
) -> dict[str, Any]:
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


def _write(found: dict[str, Any], out: output.Output) -> None:
  out.table(
    'transitions',
    ['policy', 'from_turn', 'to_turn', *changes.OUTCOMES],
    (
      [name, k, k + 1, *[step[outcome] for outcome in changes.OUTCOMES]]
      for name, held in found.items()
      for k, step in enumerate(held['steps'], start=1)
    ),
  )
  out.table(
    'changes',
    ['policy', *_SHARES, 'edit_distance_ratio'],
    (
      [name]
      + [held.get(share, '') for share in (*_SHARES, 'edit_distance_ratio')]
      for name, held in found.items()
    ),
  )
  out.table(
    'edit-ratios',
    ['policy', 'low', 'high', 'count'],
    (
      [name, low, high, count]
      for name, held in found.items()
      for low, high, count in zip(
        held['edit_ratio_histogram']['edges'],
        held['edit_ratio_histogram']['edges'][1:],
        held['edit_ratio_histogram']['counts'],
      )
    ),
  )
