"""The page's transcripts: both attempts, and what changed between them."""

from collections.abc import Iterator, Sequence
import difflib
import itertools
import re
from typing import NamedTuple

from experiments.reporting import runs
from experiments.run import transcripts
from score_jax.tasks import answer_keys, registry

# Scores of the first two attempts, what to call them, and how many to show.
_KINDS = (
  ((0.0, 1.0), 'corrected', 2),
  ((1.0, 0.0), 'spoilt', 1),
  ((0.0, 0.0), 'still wrong', 1),
  ((1.0, 1.0), 'right twice', 1),
)
_MOST_CHARACTERS = 6000
# Comparing takes quadratic time: longer texts are shown without marks.
_MOST_PIECES = 4000

# Pieces of a text with 'del', 'ins' or ''.
Marked = list[tuple[str, str]]


class Shown(NamedTuple):
  """An episode, its kind, and the attempts' texts with what changed marked."""

  kind: str
  episode: transcripts.Episode
  texts: list[Marked]


def samples(groups: runs.Groups) -> dict[str, list[Shown]]:
  """Some episodes of each group's last policy, by the policy's name."""
  found = {}
  for group in groups:
    run, policy = group.runs[0], group.last_policy
    # Characters read better for numbers, words and punctuation for prose.
    key = registry.answer_key(run.settings.task, run.settings.data.grader)
    by_character = key is answer_keys.digits
    found[group.name(policy)] = [
      _show(kind, episode, by_character)
      for kind, episode in choose(run.episodes(policy))
    ]
  return {name: shown for name, shown in found.items() if shown}


def choose(
  episodes: Sequence[transcripts.Episode],
) -> list[tuple[str, transcripts.Episode]]:
  """The first episodes of each kind, with the kind's name."""
  found = []
  for scores, kind, most in _KINDS:
    matching = (
      (kind, episode)
      for episode in episodes
      if tuple(verdict.score for verdict in episode.verdicts[:2]) == scores
    )
    found += itertools.islice(matching, most)
  return found


def _show(kind: str, episode: transcripts.Episode, by_character: bool) -> Shown:
  first, second, *others = [shorten(a.text) for a in episode.attempts]
  marked = mark(first, second, by_character=by_character)
  return Shown(kind, episode, [*marked, *[[('', text)] for text in others]])


def shorten(text: str) -> str:
  """The beginning of a text that is very long."""
  text = text.strip()
  if len(text) <= _MOST_CHARACTERS:
    return text
  left_out = len(text) - _MOST_CHARACTERS
  return f'{text[:_MOST_CHARACTERS]} … ({left_out:,} characters more)'


def mark(
  first: str, second: str, *, by_character: bool = False
) -> tuple[Marked, Marked]:
  """Both attempts in pieces, those that went and those that came marked.

  By character rather than by word and punctuation, texts of one length are
  compared place by place, as numbers are.
  """
  before, after = (
    list(text) if by_character else re.findall(r'\s+|\w+|[^\w\s]', text)
    for text in (first, second)
  )
  if max(len(before), len(after)) > _MOST_PIECES:
    return [('', first)], [('', second)]
  left, right = [], []
  for is_same, i, j, k, m in _steps(before, after, by_character):
    left.append(('' if is_same else 'del', ''.join(before[i:j])))
    right.append(('' if is_same else 'ins', ''.join(after[k:m])))
  return tuple([piece for piece in side if piece[1]] for side in (left, right))


def _steps(
  before: list[str], after: list[str], by_place: bool
) -> Iterator[tuple[bool, int, int, int, int]]:
  """Equal and different parts: before[i:j] against after[k:m]."""
  if not by_place or len(before) != len(after):
    # autojunk would leave frequent pieces, spaces above all, unmatched.
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, *bounds in matcher.get_opcodes():
      yield kind == 'equal', *bounds
    return
  start = 0
  places = zip(before, after)
  for is_same, part in itertools.groupby(places, lambda pair: len({*pair}) < 2):
    end = start + len(list(part))
    yield is_same, start, end, start, end
    start = end
