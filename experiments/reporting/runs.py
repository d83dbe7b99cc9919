"""What runs left on disk, read back; and which of them belong together."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import json
import pathlib
from typing import Any

from experiments import methods
from experiments.config import schema
from experiments.evaluations import kept_evaluations
from experiments.reporting import curves
from experiments.run import run_directory, transcripts

_IGNORED = schema.FREE | {'seed'}
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
    evaluations: those that it keeps, see `kept_evaluations`.
  """

  directory: run_directory.RunDirectory
  settings: schema.Settings
  versions: Mapping[str, str]
  results: Mapping[str, Mapping[str, Any]]
  evaluations: Sequence[Mapping[str, Any]]

  @functools.cached_property
  def learning_curve(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Records and held-out points, see `experiments.reporting.curves`."""
    names = {policy: self.name(policy) for policy in self.results}
    return curves.read(self.directory, self.results, names)

  def name(self, policy: str) -> str:
    """What to call a policy."""
    return methods.policy_label(self.settings, policy)

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

  @property
  def policies(self) -> list[str]:
    """Policies of any run, in order."""
    return list(dict.fromkeys(p for run in self.runs for p in run.results))

  @property
  def last_policy(self) -> str:
    """The policy that they ended with, or have come to so far."""
    return self.policies[-1]

  def name(self, policy: str) -> str:
    """What to call a policy of this group on a page."""
    name = self.runs[0].name(policy)
    if not self.label:
      return name
    made = [methods.BASE, *methods.stages(self.runs[0].settings)]
    return self.label if policy == made[-1] else f'{self.label}: {name}'


def table_rows(
  groups: Sequence[Group],
) -> list[tuple[str, Group, str, list[Mapping[str, Any]]]]:
  """The policies to show: label, group, policy, and its summary in each run.

  All of one group; of several the policies that they ended with, and before
  them each base policy once.
  """
  rows = []
  bases: list[list[Mapping[str, Any]]] = []
  for group in groups:
    for policy in group.policies:
      held = group.summaries(policy)
      label = group.name(policy)
      if policy == methods.BASE:
        shared = next((b for b in bases if any(s in b for s in held)), None)
        if shared is not None:
          # Perhaps of more seeds than the groups before have.
          shared += [summary for summary in held if summary not in shared]
          continue
        label = label if bases else group.runs[0].name(policy)
        bases.append(held)
      elif len(groups) > 1 and policy != group.last_policy:
        continue
      rows.append((label, group, policy, held))
  return rows


def headline(groups: Sequence[Group]) -> Group:
  """The group whose numbers a page begins with: SCoRe's, or the first."""
  return next(
    (g for g in groups if g.runs[0].settings.method == 'score'), groups[0]
  )


def find(path: str) -> list[str]:
  """The run at a path, or all in a directory of runs that have results.

  Where there are none it is the path itself, which `read` then refuses.
  """
  folder = pathlib.Path(path)
  if (folder / 'config.json').exists():
    return [path]
  found = [*folder.glob('*/results.json'), *folder.glob('*/*/results.json')]
  return sorted(str(file.parent) for file in found) or [path]


def read(path: str) -> Run:
  """Reads a run.

  Raises:
    RunError: it holds no run, or nothing was evaluated yet.
  """
  directory = run_directory.RunDirectory(path)
  settings = directory.read_settings()
  results = directory.read_results()
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
    kept_evaluations.read_all(directory),
  )


def make_groups(runs: Sequence[Run]) -> list[Group]:
  """Groups in the order of their methods, else of their first runs."""
  order = list(methods.METHODS)
  members: dict[tuple, list[Run]] = {}
  for run in sorted(runs, key=lambda run: order.index(run.settings.method)):
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
    for name, value in schema.flatten(run.settings).items()
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
    methods.METHODS[settings[name]].title
    if name == 'method'
    else f'{name}={settings[name]}'
    for name in differing
  )
