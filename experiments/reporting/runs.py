"""Runs read back from disk, and grouped where only their seeds differ."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import json
import os
import pathlib
from typing import Any

from experiments import methods
from experiments.config import fields, schema
from experiments.evaluations import kept_evaluations
from experiments.reporting import curves
from experiments.run import run_directory, transcripts

# Settings that do not make two runs different.
_IGNORED = schema.free() | {'seed'}
# With more differences a group is called by its run's directory.
_MOST_IN_LABEL = 3


@dataclasses.dataclass(frozen=True)
class Run:
  """A run that has results: policy summaries by policy, in training order."""

  directory: run_directory.RunDirectory
  settings: schema.Settings
  versions: Mapping[str, str]
  results: Mapping[str, Mapping[str, Any]]
  evaluations: Sequence[Mapping[str, Any]]

  @functools.cached_property
  def distinctive(self) -> dict[str, Any]:
    """Flattened settings without those that do not make runs different."""
    flat = fields.flatten(self.settings)
    return {n: value for n, value in flat.items() if n not in _IGNORED}

  @functools.cached_property
  def learning_curve(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Records and held-out points, see `experiments.reporting.curves`."""
    names = {policy: self.name(policy) for policy in self.results}
    return curves.read(self.directory, self.results, names)

  def name(self, policy: str) -> str:
    """A policy's name in tables."""
    return methods.policy_label(self.settings, policy)

  def episodes(self, policy: str) -> list[transcripts.Episode]:
    """The graded episodes of the run's own evaluation of a policy."""
    path = self.directory.stage(policy).path / 'evaluation.jsonl'
    return list(transcripts.read_episodes(path))


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs whose settings differ in the seed alone.

  The label has the settings that differ from other groups; it is '' of a single
  group.
  """

  label: str
  runs: Sequence[Run]

  def summaries(self, policy: str) -> list[Mapping[str, Any]]:
    """A policy's summary in every run that has it."""
    return [run.results[policy] for run in self.runs if policy in run.results]

  @property
  def policies(self) -> list[str]:
    """Policies of any of the runs, in the order of training."""
    return list(dict.fromkeys(p for run in self.runs for p in run.results))

  @property
  def last_policy(self) -> str:
    """The newest policy: the final one, or the last that is evaluated."""
    return self.policies[-1]

  def name(self, policy: str) -> str:
    """A policy's name among other groups' policies."""
    name = self.runs[0].name(policy)
    if not self.label:
      return name
    made = [methods.BASE, *methods.stages(self.runs[0].settings)]
    return self.label if policy == made[-1] else f'{self.label}: {name}'


Groups = Sequence[Group]


def table_rows(
  groups: Groups,
) -> list[tuple[str, Group, str, list[Mapping[str, Any]]]]:
  """Policies of the table of results: label, group, policy and summaries.

  All policies of a single group. Of several groups each one's last policy, and
  every base policy once, although each run has its own record of it.
  """
  rows = []
  bases: list[list[Mapping[str, Any]]] = []
  for group in groups:
    for policy in group.policies:
      held, label = group.summaries(policy), group.name(policy)
      if policy == methods.BASE:
        shared = next((b for b in bases if any(s in b for s in held)), None)
        if shared is not None:
          # This group may have more seeds than the groups before it.
          shared += [summary for summary in held if summary not in shared]
          continue
        label = label if bases else group.runs[0].name(policy)
        bases.append(held)
      if policy in (methods.BASE, group.last_policy) or len(groups) == 1:
        rows.append((label, group, policy, held))
  return rows


def headline(groups: Groups) -> Group:
  """The group whose numbers the page begins with: SCoRe's, else the first."""
  return next(
    (g for g in groups if g.runs[0].settings.method == 'score'), groups[0]
  )


def find(path: str | os.PathLike[str]) -> list[str]:
  """Paths of runs: the path itself, or the runs with results below it.

  Without any the path itself, which `read` then rejects.
  """
  folder = pathlib.Path(path)
  if (folder / 'config.json').exists():
    return [str(path)]
  found = [*folder.glob('*/results.json'), *folder.glob('*/*/results.json')]
  return sorted(str(file.parent) for file in found) or [str(path)]


def read(path: str) -> Run:
  """Reads a run; no collective, so that one process alone can report.

  Raises:
    RunError: it holds no run, or nothing was evaluated yet.
  """
  directory = run_directory.RunDirectory(path)
  settings = directory.read_settings()
  results = directory.own_results()
  if not results:
    raise run_directory.RunError(
      f'{path} has no results yet; go on with it: python -m '
      f'experiments.train --preset={settings.preset} --run-dir={path}'
    )
  versions = json.loads(directory.config.read_text())['versions']
  evaluations = kept_evaluations.read_all(directory)
  return Run(directory, settings, versions, results, evaluations)


def make_groups(runs: Sequence[Run]) -> list[Group]:
  """Groups in the order of their methods, then of their first runs."""
  order = list(methods.METHODS)
  members: dict[tuple, list[Run]] = {}
  for run in sorted(runs, key=lambda run: order.index(run.settings.method)):
    members.setdefault(tuple(run.distinctive.items()), []).append(run)
  firsts = [held[0] for held in members.values()]
  differing = [
    name
    for name, value in firsts[0].distinctive.items()
    if any(first.distinctive[name] != value for first in firsts)
  ]
  labels = [_label(first, differing) for first in firsts]
  if len(set(labels)) < len(labels):
    labels = [first.directory.path.name for first in firsts]
  return [Group(label, held) for label, held in zip(labels, members.values())]


def _label(run: Run, differing: Sequence[str]) -> str:
  if len(differing) > _MOST_IN_LABEL:
    return run.directory.path.name
  return ', '.join(
    methods.METHODS[run.settings.method].title
    if name == 'method'
    else f'{name}={run.distinctive[name]}'
    for name in differing
  )
