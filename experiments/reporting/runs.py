"""Runs read back from disk, and grouped where only their seeds differ."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import json
import os
from typing import Any, NamedTuple

import numpy as np

from experiments import methods
from experiments.config import fields, schema
from experiments.evaluations import kept_evaluations
from experiments.reporting import curves, tables
from experiments.run import damage, run_directory, transcripts
from score_jax.evaluation import metrics

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
    """The episodes of the run's own evaluation of a policy."""
    return list(
      transcripts.read_episodes(self.directory.stage(policy).evaluation)
    )


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs whose settings differ in the seed alone.

  The label has the settings that differ from other groups; it is '' of a single
  group.
  """

  label: str
  runs: Sequence[Run]

  def row(self, policy: str) -> 'Row':
    """A policy in every run that has it."""
    members = [run for run in self.runs if policy in run.results]
    return Row(self.name(policy), policy, members)

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


class Row(NamedTuple):
  """A policy of the table of results, in its runs: one a seed."""

  label: str
  policy: str
  runs: list[Run]

  @property
  def summaries(self) -> list[tables.Record]:
    """The policy's summary in each run."""
    return [run.results[self.policy] for run in self.runs]

  def pooled(self) -> dict[str, Any]:
    """One record of all seeds, see `tables.pool`."""
    # One run's intervals are in its summary.
    values = [
      problem_values(run.directory.stage(self.policy))
      for run in (self.runs if len(self.runs) > 1 else ())
    ]
    return tables.pool(self.summaries, values)

  def epochs(self) -> str:
    """A note on how often supervised updates saw their pairs; may be ''."""
    return tables.epochs(
      [
        read_epochs(run.directory.stage(self.policy), run.settings.batch_size)
        for run in self.runs
      ]
    )


def table_rows(groups: Groups) -> list[Row]:
  """Policies of the table of results.

  All policies of a single group. Of several groups each one's last policy, and
  every base policy once, although each run has its own record of it.
  """
  rows: list[Row] = []
  bases: list[Row] = []
  for group in groups:
    for policy in group.policies:
      row = group.row(policy)
      if policy == methods.BASE:
        shared = next((base for base in bases if _share_seed(base, row)), None)
        if shared is not None:
          # This group may have more seeds than the groups before it.
          known = shared.summaries
          shared.runs.extend(
            run for run in row.runs if run.results[policy] not in known
          )
          continue
        if not bases:
          row = row._replace(label=group.runs[0].name(policy))
        bases.append(row)
      if policy in (methods.BASE, group.last_policy) or len(groups) == 1:
        rows.append(row)
  return rows


def _share_seed(one: Row, other: Row) -> bool:
  return any(summary in one.summaries for summary in other.summaries)


def problem_values(stage: run_directory.StageDirectory) -> tables.Values:
  """`metrics.problem_columns` of a policy's own evaluation, by problem."""
  episodes = [
    episode
    for episode in transcripts.read_episodes(stage.evaluation)
    if is_graded(episode)
  ]
  if not episodes:
    return {}
  ids = [episode.problem.id for episode in episodes]
  return {
    name: dict(zip(ids, values.tolist(), strict=True))
    for name, values in metrics.problem_columns(correct(episodes)).items()
  }


def is_graded(episode: transcripts.Episode) -> bool:
  """Whether all attempts of an episode are graded."""
  return all(verdict.score is not None for verdict in episode.verdicts)


def correct(episodes: Sequence[transcripts.Episode]) -> np.ndarray:
  """Right attempts of graded episodes, bool [M, K]."""
  return np.array([[v.score >= 0.5 for v in e.verdicts] for e in episodes])


def read_epochs(
  stage: run_directory.StageDirectory, batch_size: int
) -> float | None:
  """Passes that a supervised stage's updates made over its pairs, else None."""
  if not (stage.pairs.exists() and stage.written.is_intact(stage.pairs)):
    return None
  counts = json.loads(stage.pairs.read_text())
  pairs = counts['repairs'] + counts['both_right']
  updates = max(
    (r['step'] for r in stage.written.records(stage.metrics)), default=0
  )
  return updates * batch_size / pairs if pairs else 0.0


def headline(groups: Groups) -> Group:
  """The group whose numbers the page begins with: SCoRe's, else the first."""
  return next(
    (g for g in groups if g.runs[0].settings.method == 'score'), groups[0]
  )


def find(path: str | os.PathLike[str]) -> list[str]:
  """Paths of runs: the path itself, or the runs with results below it.

  Without any the path itself, which `read` then rejects.
  """
  folder = run_directory.RunDirectory.existing(path).path
  if (folder / 'config.json').exists():
    return [str(path)]
  found = [*folder.glob('*/results.json'), *folder.glob('*/*/results.json')]
  return sorted(str(file.parent) for file in found) or [str(path)]


def read(path: str) -> Run:
  """Reads a run; no collective, so that one process alone can report.

  Raises:
    RunError: it holds no run, or nothing was evaluated yet.
  """
  directory = run_directory.RunDirectory.existing(path)
  settings = directory.read_settings()
  damage.check_alone(directory)
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
