"""What runs left on disk, read back; and which of them belong together.

Nothing here needs an accelerator, a checkpoint or jax.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import json
from typing import Any

from experiments import evaluations, files, run_directory, transcripts
from experiments import settings as settings_lib

_HELD_OUT = 'eval/'
_IGNORED = settings_lib.FREE | {'seed'}
_NAMES = {
  'base': 'Base',
  'stage1': 'Stage I',
  'stage1a': 'Stage I (a)',
  'stage1b': 'Stage I (b)',
  'stage2': 'Stage II',
  'single_turn': 'Single-turn RL',
  'multi_turn': 'Multi-turn RL',
}
# More differences make no label.
_MOST_IN_LABEL = 3


@dataclasses.dataclass(frozen=True)
class Run:
  """A run directory.

  Attributes:
    directory: where it is.
    settings: of the run.
    versions: of what it was made with.
    results: policy summaries by policy, in their order.
    evaluations: those that it keeps, see `experiments.evaluations`.
  """

  directory: run_directory.RunDirectory
  settings: settings_lib.Settings
  versions: Mapping[str, str]
  results: Mapping[str, Mapping[str, Any]]
  evaluations: Sequence[Mapping[str, Any]]

  @property
  def last_policy(self) -> str:
    """The policy that the run ended with."""
    return list(self.results)[-1]

  @functools.cached_property
  def records(self) -> list[dict[str, Any]]:
    """Metrics of all steps of the evaluated stages, in order."""
    return [
      record
      for name in self.results
      if name != 'base'
      for record in files.read_lines(self.directory.stage(name).metrics)
      if 'score/acc_t1' in record
    ]

  @functools.cached_property
  def points(self) -> list[dict[str, Any]]:
    """Held-out evaluations, as `plots.draw_learning_curves` takes them."""
    last = {record['stage']: record['step'] for record in self.records}
    found, before = [], None
    for name, summary in self.results.items():
      if name in last:
        if before and not found:
          found.append({'stage': name, 'step': 0, **before})
        found.append({'stage': name, 'step': last[name], **summary})
      before = summary
    during = [
      {
        name.removeprefix(_HELD_OUT): value
        for name, value in record.items()
        if name in ('stage', 'step') or name.startswith(_HELD_OUT)
      }
      for record in self.records
      if f'{_HELD_OUT}acc_t1' in record
    ]
    return found + during

  def episodes(self, policy: str) -> list[transcripts.Episode]:
    """The judged attempts of a policy's evaluation in the run."""
    path = self.directory.stage(policy).path / 'evaluation.jsonl'
    return list(transcripts.read_episodes(path))


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs whose settings differ in the seed alone.

  Attributes:
    label: what tells it from other groups; '' where there is one.
    runs: at least one.
  """

  label: str
  runs: Sequence[Run]

  def summaries(self, policy: str) -> list[Mapping[str, Any]]:
    """A policy's summary in each run that has it."""
    return [run.results[policy] for run in self.runs if policy in run.results]

  def name(self, policy: str) -> str:
    """What to call a policy of this group on a page."""
    return ' · '.join(
      part for part in (self.label, policy_name(policy)) if part
    )


def policy_name(policy: str) -> str:
  """`stage1` -> Stage I; names that are not known are taken as they are."""
  return _NAMES.get(policy, policy.replace('_', ' '))


def read(path: str) -> Run:
  """Reads a run.

  Raises:
    RunError: it holds no run, or nothing was evaluated yet.
  """
  directory = run_directory.RunDirectory(path)
  settings = directory.read_settings()
  results = {}
  if directory.results.exists():
    results = json.loads(directory.results.read_text())
  if not results:
    raise run_directory.RunError(
      f'{path} has no results yet; go on with it: python -m '
      f'experiments.train --preset={settings.preset} --run-dir={path}'
    )
  return Run(
    directory,
    settings,
    json.loads(directory.config.read_text())['versions'],
    results,
    evaluations.read_all(directory),
  )


def make_groups(runs: Sequence[Run]) -> list[Group]:
  """Groups in the order in which their first runs are given."""
  members: dict[tuple, list[Run]] = {}
  for run in runs:
    members.setdefault(tuple(_telling(run).items()), []).append(run)
  firsts = [_telling(held[0]) for held in members.values()]
  differing = [
    name
    for name in firsts[0]
    if len({repr(first.get(name)) for first in firsts}) > 1
  ]
  labels = [
    _label(held[0], first, differing)
    for held, first in zip(members.values(), firsts)
  ]
  if len(set(labels)) < len(labels):
    labels = [str(held[0].directory.path.name) for held in members.values()]
  return [Group(label, held) for label, held in zip(labels, members.values())]


def _telling(run: Run) -> dict[str, Any]:
  """Settings that make a difference, as they can be compared."""
  return {
    name: value
    for name, value in settings_lib.flatten(run.settings).items()
    if name not in _IGNORED
  }


def _label(
  run: Run, settings: Mapping[str, Any], differing: Sequence[str]
) -> str:
  if not differing:
    return ''
  if len(differing) > _MOST_IN_LABEL:
    return run.directory.path.name
  return ', '.join(
    str(settings[name]).replace('_', ' ')
    if name == 'method'
    else f'{name}={settings[name]}'
    for name in differing
  )
