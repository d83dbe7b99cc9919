"""The paper's metrics of a policy, with confidence intervals.

M problems, K turns; `correct` is bool [M, K]. Every accuracy, difference and
transition is a mean over all M problems of one number per problem, so that one
bootstrap serves them all and delta = i_to_c - c_to_i everywhere.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from score_jax.evaluation import bootstrap


def transitions(
  correct: np.ndarray, first: int = 1, second: int = 2
) -> dict[str, np.ndarray]:
  """Changes of correctness between two turns of each problem.

  Args:
    correct: bool [M, K].
    first: the earlier turn, from 1.
    second: the later turn.

  Returns:
    float64 [M] each: `delta` (-1, 0 or 1), `i_to_c` (incorrect, then correct)
    and `c_to_i`. Means over all problems are the paper's Delta, Delta^{i->c}
    and Delta^{c->i} (its section 3).
  """
  before, after = correct[:, first - 1], correct[:, second - 1]
  gained, lost = ~before & after, before & ~after
  return {
    'delta': gained.astype(float) - lost.astype(float),
    'i_to_c': gained.astype(float),
    'c_to_i': lost.astype(float),
  }


def _per_problem(correct: np.ndarray) -> dict[str, np.ndarray]:
  """The columns [M] whose means are a policy's metrics."""
  correct = np.asarray(correct)
  if correct.ndim != 2 or correct.dtype != bool or not correct.size:
    raise ValueError(
      'correct must be bool [problems, turns] with at least one of each, not '
      f'{correct.dtype} {list(correct.shape)}'
    )
  turns = correct.shape[1]
  columns = {
    f'acc_t{k}': correct[:, k - 1].astype(float) for k in range(1, turns + 1)
  }
  for k in range(1, turns):
    suffix = '' if k == 1 else f'_t{k}_t{k + 1}'
    pair = transitions(correct, k, k + 1)
    columns |= {name + suffix: values for name, values in pair.items()}
  return columns


def turn_metrics(correct: np.ndarray) -> dict[str, float]:
  """Accuracies of all turns and transitions between consecutive ones.

  Args:
    correct: bool [M, K].

  Returns:
    Fractions of all problems: `acc_t1`, ..., and, from turn 1 to 2, `delta`,
    `i_to_c`, `c_to_i`; later pairs are named `delta_t2_t3` and so on.

  Raises:
    ValueError: `correct` is empty or not bool [M, K].
  """
  columns = _per_problem(correct)
  return {name: float(values.mean()) for name, values in columns.items()}


def policy_summary(
  correct: np.ndarray,
  *,
  samples_per_problem: int = 1,
  seed: int = 0,
  resamples: int = 10_000,
) -> dict[str, Any]:
  """`turn_metrics`, each with `<name>_ci95` ([low, high]), and `problems`.

  Args:
    correct: bool [M * G, K].
    samples_per_problem: G; a problem's samples are adjacent and stay together
      in the bootstrap, which draws problems.
    seed: of the bootstrap; the order of the problems does not matter.
    resamples: of the bootstrap.

  Returns:
    Plain numbers and lists, as results.json has them.
  """
  columns = problem_columns(correct, samples_per_problem)
  summary: dict[str, Any] = {}
  for name, (mean, interval) in bootstrap.means(
    columns, seed=seed, resamples=resamples
  ).items():
    summary |= {name: mean, f'{name}_ci95': interval}
  return summary | {'problems': len(correct) // samples_per_problem}


def problem_columns(
  correct: np.ndarray, samples_per_problem: int = 1
) -> dict[str, np.ndarray]:
  """The numbers of each problem whose means are `turn_metrics`.

  Args:
    correct: bool [M * G, K].
    samples_per_problem: G, whose mean is a problem's number.

  Returns:
    float64 [M] each.
  """
  return {
    name: values.reshape(-1, samples_per_problem).mean(axis=1)
    for name, values in _per_problem(correct).items()
  }


def compare_policies(
  first: np.ndarray,
  second: np.ndarray,
  *,
  samples_per_problem: int = 1,
  seed: int = 0,
) -> dict[str, dict[str, Any]]:
  """Paired tests of every metric that two policies share.

  Args:
    first: bool [M * G, K] of one policy.
    second: of the other, on the same problems in the same order.
    samples_per_problem: G.
    seed: of the bootstrap.

  Returns:
    `bootstrap.paired_test` (second - first) by the names of `turn_metrics`.
  """
  ours = problem_columns(first, samples_per_problem)
  theirs = problem_columns(second, samples_per_problem)
  return {
    name: bootstrap.paired_test(values, theirs[name], seed=seed)
    for name, values in ours.items()
    if name in theirs
  }


def zero_spread(
  score: np.ndarray,
  samples_per_problem: int,
  graded: np.ndarray | None = None,
) -> np.ndarray:
  """Problems without a policy gradient: all their graded scores are equal.

  Args:
    score: [B, K], the G samples of a problem adjacent.
    samples_per_problem: G.
    graded: bool [B, K]; ungraded scores are left out. Problems with fewer than
      two graded samples have no spread, as in `advantages.leave_one_out`.

  Returns:
    bool [N, K].
  """
  score = np.asarray(score, float)
  if len(score) % samples_per_problem:
    raise ValueError(
      f'{len(score)} scores do not divide into groups of {samples_per_problem}'
    )
  graded = np.ones(score.shape, bool) if graded is None else np.asarray(graded)
  groups = (-1, samples_per_problem, score.shape[1])
  highest = np.where(graded, score, -np.inf).reshape(groups).max(axis=1)
  lowest = np.where(graded, score, np.inf).reshape(groups).min(axis=1)
  return highest <= lowest


def edit_distance(first: Sequence, second: Sequence) -> int:
  """Least number of insertions and deletions from one sequence to the other.

  len(first) + len(second) - 2 * (length of a longest common subsequence), which
  is found exactly by bit-parallel dynamic programming (Hyyro, 2004): one
  addition of len(first) bits for each element of the second.
  """
  positions: dict[Any, int] = {}
  for i, element in enumerate(first):
    positions[element] = positions.get(element, 0) | 1 << i
  everything = (1 << len(first)) - 1
  open_rows = everything  # bit i is 0 where the subsequence grows at row i
  for element in second:
    matches = open_rows & positions.get(element, 0)
    open_rows = (open_rows + matches | open_rows - matches) & everything
  common = len(first) - open_rows.bit_count()
  return len(first) + len(second) - 2 * common


def edit_distance_ratio(first: Sequence, second: Sequence) -> float:
  """Edit distance over the total length of both attempts (the paper's Fig. 3).

  0 for identical attempts, 1 for attempts with nothing in common. The paper
  does not state the distance. With substitutions the ratio of texts of equal
  length could not exceed 1/2, as its plots do; hence insertions and deletions.
  Sequences are texts (characters) or token ids.
  """
  total = len(first) + len(second)
  return edit_distance(first, second) / total if total else 0.0


def text_metrics(
  firsts: Sequence[Sequence], seconds: Sequence[Sequence]
) -> dict[str, float]:
  """Means over problems of `frac_identical` and `edit_distance_ratio`.

  Args:
    firsts: first attempts, one for each problem.
    seconds: second attempts of the same problems.
  """
  pairs = list(zip(firsts, seconds, strict=True))
  if not pairs:
    raise ValueError('there are no attempts to compare')
  return {
    'frac_identical': sum(a == b for a, b in pairs) / len(pairs),
    'edit_distance_ratio': sum(edit_distance_ratio(a, b) for a, b in pairs)
    / len(pairs),
  }
