"""A run's learning curves, read from its metrics and results."""

from collections.abc import Mapping
from typing import Any

from experiments import methods
from experiments.run import outcome, run_directory


def read(
  run: run_directory.RunDirectory,
  results: Mapping[str, Any],
  names: Mapping[str, str],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
  """Reads the records and evaluations of `plots.draw_learning_curves`.

  Args:
    run: a run.
    results: policy summaries by policy, in the order of training.
    names: of the policies, as plots show them.

  Returns:
    Records of all updates of stages that measured accuracies, and points of
    evaluations, labelled: of test problems before the first stage and after
    each, of validation problems during them.
  """
  records, points = [], []
  test = {'label': 'held-out, greedy'}
  before = results.get(methods.BASE)
  for policy in [name for name in results if name != methods.BASE]:
    label = {'stage': names[policy]}
    stage = run.stage(policy)
    lines = stage.written.records(stage.metrics)
    updates = [record | label for record in lines]
    if any('score/acc_t1' in record for record in updates):
      if before and not records:
        points.append({**label, **test, 'step': 0, **before})
      records += updates
      last = updates[-1]['step']
      points.append({**label, **test, 'step': last, **results[policy]})
    before = results[policy]
  points += [
    {'label': 'validation, greedy'}
    | {
      name.removeprefix(outcome.VALIDATION): value
      for name, value in record.items()
      if name in ('stage', 'step') or name.startswith(outcome.VALIDATION)
    }
    for record in records
    if f'{outcome.VALIDATION}acc_t1' in record
  ]
  return records, points
