"""The page's transcripts: both attempts, and what changed between them."""

from collections.abc import Sequence

from experiments.reporting import difference, markup, runs
from experiments.run import transcripts
from score_jax.tasks import arithmetic

# Scores of the first two attempts, with what to say, and how many of each.
_KINDS = (
  ((0.0, 1.0), 'corrected', 2),
  ((1.0, 0.0), 'spoilt', 1),
  ((0.0, 0.0), 'still wrong', 1),
  ((1.0, 1.0), 'right twice', 1),
)
_LONGEST = 6000


def samples(groups: Sequence[runs.Group]) -> markup.Html | None:
  """Telling episodes of each group's last policy."""
  parts = []
  for group in groups:
    run = group.runs[0]
    policy = group.last_policy
    by_character = run.settings.task == arithmetic.NAME
    shown = [
      _episode(episode, kind, by_character)
      for kind, episode in choose(run.episodes(policy))
    ]
    if shown:
      parts.append((group.name(policy), shown))
  if not parts:
    return None
  blocks = []
  for i, (name, shown) in enumerate(parts):
    if len(parts) == 1:
      blocks += shown
    else:
      summary = markup.element('summary', name)
      blocks.append(
        markup.element('details', summary, *shown, open=i == len(parts) - 1)
      )
  name = parts[0][0] if len(parts) == 1 else 'the last policy of each'
  return markup.section(
    'Transcripts',
    *blocks,
    note=f'Held-out problems as {name} attempts them, the first of each kind. '
    'Marked: what the second attempt took out, and what it put in.',
  )


def choose(
  episodes: Sequence[transcripts.Episode],
) -> list[tuple[str, transcripts.Episode]]:
  """The first episodes of each kind, with the kind's name."""
  found = []
  for scores, kind, most in _KINDS:
    matching = [
      episode
      for episode in episodes
      if tuple(verdict.score for verdict in episode.verdicts[:2]) == scores
    ]
    found += [(kind, episode) for episode in matching[:most]]
  return found


def _episode(
  episode: transcripts.Episode, kind: str, by_character: bool
) -> markup.Html:
  texts = [_shorten(attempt.text) for attempt in episode.attempts]
  first, second = difference.mark(*texts[:2], by_character=by_character)
  marked = [first, second, *texts[2:]]
  lines = [('problem', markup.join([_shorten(episode.problem.question)]))]
  for attempt, verdict, text in zip(episode.attempts, episode.verdicts, marked):
    state = verdict.label + ('' if attempt.finished else ', cut off')
    badge = markup.element(
      'span', state, class_=f'badge {verdict.label}', title=verdict.reason
    )
    lines.append((f'attempt {attempt.turn}', markup.join([text, badge])))
  lines.append(('reference', _shorten(episode.problem.reference)))
  return markup.element(
    'div',
    markup.element('h3', f'{kind} · {episode.problem.id}'),
    markup.element(
      'dl',
      *[
        part
        for term, text in lines
        for part in (markup.element('dt', term), markup.element('dd', text))
      ],
    ),
    class_='episode',
  )


def _shorten(text: str) -> str:
  text = text.strip()
  if len(text) <= _LONGEST:
    return text
  return f'{text[:_LONGEST]} … ({len(text) - _LONGEST:,} characters more)'
