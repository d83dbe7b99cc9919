"""What is measured of graded attempts, beyond the five metrics."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from score_jax import types
from score_jax.evaluation import (
  bootstrap,
  breakdown,
  changes,
  evaluate,
  metrics,
  pass_at_k,
  scaling,
  voting,
)
from score_jax.tasks import answer_keys, difficulty


@dataclasses.dataclass(frozen=True)
class Wanted:
  """What to measure besides the summary.

  Attributes:
    changes: how second attempts differ from first ones.
    pass_at: numbers k of samples for pass@k of each turn.
    majority_at: numbers k of samples for a majority vote of each turn.
    inference_scaling: votes of 2K attempts against K that are corrected once.
    vote: who votes in corrected episodes, see `scaling`.
    by: column or measure to group problems by; see `tasks.difficulty`.
  """

  changes: bool = False
  pass_at: tuple[int, ...] = ()
  majority_at: tuple[int, ...] = ()
  inference_scaling: bool = False
  vote: scaling.VoteSet = 'last'
  by: str | None = None


def measure(
  wanted: Wanted,
  evaluation: evaluate.Evaluation,
  key: answer_keys.AnswerKey,
  grader: types.Grader,
) -> dict[str, Any]:
  """The summary of a policy, and whatever else is wanted.

  Args:
    wanted: besides the summary.
    evaluation: graded attempts of the policy.
    key: the answer of an attempt, by which votes are counted.
    grader: says which different answers are equal, where it can.

  Raises:
    ValueError: nothing could be graded, or there is no column of that name.
  """
  measured: dict[str, Any] = dict(evaluation.summary())
  graded = evaluation.only(evaluation.is_graded)
  samples = graded.samples_per_problem
  correct = graded.correct()
  keys = answers(graded, key)
  if correct.shape[1] > 1 and wanted.changes:
    measured['changes'] = changes.summarize(
      [(row[0].text, row[1].text) for row in graded.attempts],
      [(row[0], row[1]) for row in keys],
      correct,
      samples_per_problem=samples,
    )
  measured |= _of_samples(
    wanted,
    [keys[i : i + samples] for i in range(0, len(keys), samples)],
    correct.reshape(-1, samples, correct.shape[1]),
    grader,
  )
  if wanted.by:
    measured['by'] = _by(wanted.by, graded)
  return measured


def _of_samples(
  wanted: Wanted,
  keys: Sequence[Sequence[voting.Keys]],
  correct: np.ndarray,
  grader: types.Grader,
) -> dict[str, Any]:
  """pass@k, votes and inference scaling from answers of [N, G, K] attempts."""
  measured: dict[str, Any] = {}
  if wanted.pass_at:
    measured['pass_at'] = {
      str(k): _by_turn(pass_at_k.pass_at_k(correct, k)) for k in wanted.pass_at
    }
  if wanted.majority_at or wanted.inference_scaling:
    keys = voting.merge_equivalent(keys, _equality(grader))
  if wanted.majority_at:
    measured['majority_at'] = {
      str(k): _majority(keys, correct, k) for k in wanted.majority_at
    }
  if wanted.inference_scaling:
    measured['scaling'] = scaling.inference_scaling(
      [[row[:2] for row in rows] for rows in keys],
      correct[..., :2],
      budgets=[b for b in scaling.BUDGETS if b <= correct.shape[1]],
      vote=wanted.vote,
    )
  return measured


def answers(
  evaluation: evaluate.Evaluation, key: answer_keys.AnswerKey
) -> list[list[Any]]:
  """The answer of each attempt, [M * G] lists of K texts or None."""
  return [
    [key(problem, attempt) for attempt in row]
    for problem, row in zip(evaluation.problems, evaluation.attempts)
  ]


def compare(
  first: evaluate.Evaluation, second: evaluate.Evaluation
) -> dict[str, Any]:
  """Paired tests of every metric (second - first), and `problems`.

  Raises:
    ValueError: they are of other problems, or no problem is graded in both.
  """
  ids = [[p.id for p in e.problems] for e in (first, second)]
  if ids[0] != ids[1]:
    raise ValueError(
      'the policies were asked different problems: a paired test needs the same'
    )
  is_graded = first.is_graded & second.is_graded
  if not is_graded.any():
    raise ValueError('no problem could be graded for both policies')
  tests = metrics.compare_policies(
    first.only(is_graded).correct(),
    second.only(is_graded).correct(),
    samples_per_problem=first.samples_per_problem,
  )
  return tests | {'problems': int(is_graded.sum())}


def _by(name: str, graded: evaluate.Evaluation) -> dict[str, Any]:
  samples = graded.samples_per_problem
  values = [difficulty.measure(p, name) for p in graded.problems[::samples]]
  return {
    'column': name,
    'groups': breakdown.by_group(
      breakdown.make_groups(values),
      graded.correct(),
      samples_per_problem=samples,
    ),
  }


def _by_turn(values: np.ndarray) -> dict[str, Any]:
  """Means and intervals of numbers [N, K] as `t1`, `t1_ci95`, `t2`, ...."""
  columns = {f't{k}': column for k, column in enumerate(values.T, start=1)}
  result: dict[str, Any] = {}
  for name, (mean, interval) in bootstrap.means(columns).items():
    result |= {name: mean, f'{name}_ci95': interval}
  return result


def _majority(
  votes: Sequence[Sequence[voting.Keys]], grouped: np.ndarray, size: int
) -> Mapping[str, Any]:
  turns = range(grouped.shape[2])
  accuracies = [
    voting.vote_accuracy(
      [[row[k : k + 1] for row in rows] for rows in votes],
      grouped[..., k : k + 1],
      size,
    )
    for k in turns
  ]
  return _by_turn(np.stack(accuracies, axis=1))


def _equality(
  grader: types.Grader,
) -> Callable[[list[str], list[str]], list[bool]]:
  """Whether answers are equal by algebra, where the grader knows algebra."""
  if not hasattr(grader, 'grade_answers'):
    return lambda ones, others: [False] * len(ones)
  return lambda ones, others: [
    verdict.label == 'correct' for verdict in grader.grade_answers(ones, others)
  ]
