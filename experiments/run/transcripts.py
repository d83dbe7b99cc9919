"""Episodes as text: printed in colour, and as lines of samples.jsonl."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

from rich import console as rich_console
from rich import panel as rich_panel
from rich import text as rich_text

from score_jax import types
from score_jax.io import written_files
from score_jax.tasks import answer_keys

# Longer attempts are cut on a terminal; samples.jsonl has all of them.
_PRINTED_CHARACTERS = 1500
_COLOURS = {'correct': 'green', 'wrong': 'red'}


@dataclasses.dataclass(frozen=True)
class Episode:
  """A problem with graded attempts at it.

  Attributes:
    problem: the problem.
    attempts: one for each turn.
    verdicts: the grader's, one for each attempt.
  """

  problem: types.Problem
  attempts: Sequence[types.Attempt]
  verdicts: Sequence[types.Verdict]


def episodes(
  problems: Sequence[types.Problem],
  attempts: Sequence[Sequence[types.Attempt]],
  verdicts: Sequence[Sequence[types.Verdict]],
) -> list[Episode]:
  """Zips problems, attempts and verdicts into an episode each."""
  return [
    Episode(*parts) for parts in zip(problems, attempts, verdicts, strict=True)
  ]


class SamplesLog:
  """Appends episodes to a JSON lines file."""

  def __init__(self, stage: str, path: pathlib.Path, step: int = -1):
    """Opens the file of a stage that is continued after `step`; -1: anew."""
    self._stage = stage
    self._lines = written_files.Log(path, step)

  def write(self, step: int, episodes: Sequence[Episode]) -> None:
    """Writes one record an episode."""
    for episode in episodes:
      problem = episode.problem
      record = {
        'stage': self._stage,
        'step': int(step),
        'id': problem.id,
        'question': problem.question,
        'reference': problem.reference,
        'attempts': [a.text for a in episode.attempts],
        'finished': [a.finished for a in episode.attempts],
        'labels': [v.label for v in episode.verdicts],
        'scores': [v.score for v in episode.verdicts],
        'reasons': [v.reason for v in episode.verdicts],
      }
      rewards = [v.reward for v in episode.verdicts if v.reward]
      if rewards:
        record |= {
          'reward_labels': [reward.label for reward in rewards],
          'rewards': [reward.score for reward in rewards],
          'reward_reasons': [reward.reason for reward in rewards],
        }
      columns = {
        name: problem.columns[name]
        for name in answer_keys.COLUMNS
        if name in problem.columns
      }
      if columns:
        # Whoever reads the episodes can tell their answers apart.
        record['columns'] = columns
      self._lines.write(record)

  def note(self) -> None:
    """Notes digests of the lines so far; see `written_files`."""
    self._lines.note()

  def close(self) -> None:
    """Closes the file. May be called twice."""
    self._lines.close()


def read_episodes(path: pathlib.Path) -> Iterator[Episode]:
  """Reads the episodes that a SamplesLog wrote, without damaged lines."""
  for record in written_files.WrittenFiles(path.parent).records(path):
    problem = types.Problem(
      record['id'],
      '',
      record['question'],
      record['reference'],
      record.get('columns', {}),
    )
    attempts = [
      types.Attempt(text, turn, finished)
      for turn, (text, finished) in enumerate(
        zip(record['attempts'], record['finished'], strict=True), start=1
      )
    ]
    verdicts = _verdicts(record, ('labels', 'scores', 'reasons'))
    if 'rewards' in record:
      keys = ('reward_labels', 'rewards', 'reward_reasons')
      verdicts = [
        dataclasses.replace(verdict, reward=reward)
        for verdict, reward in zip(verdicts, _verdicts(record, keys))
      ]
    yield Episode(problem, attempts, verdicts)


def _verdicts(
  record: Mapping[str, Any], keys: Sequence[str]
) -> list[types.Verdict]:
  """Verdicts of a record's labels, scores and reasons."""
  return [
    types.Verdict(label, score, reason=reason)
    for label, score, reason in zip(*map(record.get, keys), strict=True)
  ]


def render(episode: Episode, title: str = '') -> rich_panel.Panel:
  """A panel of a problem and its attempts: correct ones green, wrong red."""
  text = rich_text.Text()
  text.append('problem    ', 'bold')
  text.append(_shorten(episode.problem.question) + '\n')
  for attempt, verdict in zip(episode.attempts, episode.verdicts, strict=True):
    colour = _COLOURS.get(verdict.label, 'yellow')
    text.append(f'attempt {attempt.turn}  ', 'bold')
    text.append(_shorten(attempt.text), colour)
    text.append(f'  {verdict.label}', f'bold {colour}')
    if not attempt.finished:
      text.append(', cut off by its limit', 'yellow')
    if verdict.reason:
      text.append(f' ({verdict.reason})', 'dim')
    if verdict.reward:
      text.append(f', reward {reward_text(verdict.reward)}')
    text.append('\n')
  text.append('reference  ', 'bold')
  text.append(_shorten(episode.problem.reference))
  return rich_panel.Panel(text, title=title or None, title_align='left')


def print_episodes(
  console: rich_console.Console, episodes: Sequence[Episode], title: str
) -> None:
  """Prints episodes one below the other."""
  for episode in episodes:
    console.print(render(episode, f'{title} · {episode.problem.id}'))


def reward_text(verdict: types.Verdict) -> str:
  """A training reward as text, or why there is none."""
  if verdict.score is None:
    return f'none ({verdict.reason})'
  return f'{verdict.score:g}'


def _shorten(text: str) -> str:
  text = text.strip()
  if len(text) <= _PRINTED_CHARACTERS:
    return text
  left_out = len(text) - _PRINTED_CHARACTERS
  return f'{text[:_PRINTED_CHARACTERS]} ... ({left_out} characters more)'
