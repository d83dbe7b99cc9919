"""A run's learning curves, read from its metrics and results."""

from collections.abc import Mapping
from typing import Any

from experiments.run import outcome, run_directory
from score_jax.io import json_files


def read(
  run: run_directory.RunDirectory,
  results: Mapping[str, Any],
  names: Mapping[str, str],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
  """What `plots.draw_learning_curves` takes: records and evaluations.

  Args:
    run: a run.
    results: policy summaries by policy, in their order.
    names: what to call the policies.

  Returns:
    Records of all updates of phases that measured accuracies, and points of
    held-out evaluations: before the first phase, during and after each.
  """
  updates = {
    policy: list(json_files.read_lines(run.stage(policy).metrics))
    for policy in results
    if policy != 'base'
  }
  drawn = [
    policy
    for policy, records in updates.items()
    if any('score/acc_t1' in record for record in records)
  ]
  records = [
    record | {'stage': names[policy]}
    for policy in drawn
    for record in updates[policy]
  ]
  points = [
    {
      'stage': names[policy],
      'step': updates[policy][-1]['step'],
      **results[policy],
    }
    for policy in drawn
  ]
  before = list(results)[: list(results).index(drawn[0])] if drawn else []
  if before:
    start = {'stage': names[drawn[0]], 'step': 0, **results[before[-1]]}
    points.insert(0, start)
  points += [
    {
      name.removeprefix(outcome.HELD_OUT): value
      for name, value in record.items()
      if name in ('stage', 'step') or name.startswith(outcome.HELD_OUT)
    }
    for record in records
    if f'{outcome.HELD_OUT}acc_t1' in record
  ]
  return records, points
