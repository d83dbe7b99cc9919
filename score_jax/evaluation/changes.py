"""From the first attempt to the second: kept, edited, corrected or spoilt."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from score_jax.evaluation import bootstrap, metrics

OUTCOMES = ('right_right', 'wrong_right', 'right_wrong', 'wrong_wrong')


def transition_counts(
  correct: np.ndarray, first: int = 1, second: int = 2
) -> dict[str, int]:
  """Numbers of episodes that are right or wrong at two turns.

  Args:
    correct: bool [M, K].
    first: the earlier turn, from 1.
    second: the later turn.

  Returns:
    `right_right`, `wrong_right` (corrected), `right_wrong` (spoilt) and
    `wrong_wrong`, in this order; they add up to M.
  """
  before, after = correct[:, first - 1], correct[:, second - 1]
  masks = (before & after, ~before & after, before & ~after, ~before & ~after)
  return {name: int(mask.sum()) for name, mask in zip(OUTCOMES, masks)}


def ratio_histogram(ratios: Sequence[float], bins: int = 20) -> dict[str, list]:
  """Distribution of edit-distance ratios (the paper's Figure 3).

  Args:
    ratios: in [0, 1], `metrics.edit_distance_ratio` of each two attempts.
    bins: of equal width from 0 to 1.

  Returns:
    `edges`, bins + 1 of them, and `counts`; a bin includes its lower edge, the
    last bin both.
  """
  counts, _ = np.histogram(ratios, bins=bins, range=(0.0, 1.0))
  return {
    'edges': [i / bins for i in range(bins + 1)],
    'counts': counts.tolist(),
  }


def changed_answers(
  firsts: Sequence[Hashable | None], seconds: Sequence[Hashable | None]
) -> np.ndarray:
  """Second attempts with another answer than the first, bool [M].

  The paper's Figure 5b. Two attempts without an answer have not changed it.

  Args:
    firsts: answer keys of the first attempts, see `tasks.answer_keys`.
    seconds: of the second attempts.
  """
  return np.array(
    [one != other for one, other in zip(firsts, seconds, strict=True)], bool
  )


def conditional_rates(
  correct: np.ndarray,
  *,
  samples_per_problem: int = 1,
  seed: int = 0,
  resamples: int = 10_000,
) -> dict[str, Any]:
  """Shares of wrong first attempts corrected, and of right ones spoilt.

  Unlike `i_to_c` and `c_to_i`, which are shares of all problems. The paper's
  Figure 4 plots them, on off-policy first attempts.

  Args:
    correct: bool [M * G, K].
    samples_per_problem: G.
    seed: of the bootstrap, which resamples problems.
    resamples: of the bootstrap.

  Returns:
    `correction_rate` and `spoiling_rate` with `<name>_ci95`; without a rate
    whose denominator is 0.
  """
  result: dict[str, Any] = {}
  for name, parts in _rate_parts(correct).items():
    part, whole = (
      values.reshape(-1, samples_per_problem).sum(axis=1) for values in parts
    )
    rate, interval = bootstrap.ratio(
      part, whole, seed=seed, resamples=resamples
    )
    result |= {name: rate, f'{name}_ci95': interval}
  return result


def problem_columns(
  texts: Sequence[tuple[str, str]],
  keys: Sequence[tuple[Hashable | None, Hashable | None]],
  correct: np.ndarray,
) -> dict[str, np.ndarray]:
  """Numbers of each problem whose means are shares and rates of `summarize`.

  Args are those of `summarize`, with one sample of each problem.

  Returns:
    float64 [M] each; without a rate whose denominator is 0.
  """
  columns = _share_columns(texts, keys)
  for name, (part, whole) in _rate_parts(correct).items():
    columns[name] = bootstrap.ratio_values(part, whole)
  return columns


def _share_columns(texts, keys) -> dict[str, np.ndarray]:
  """Whether each of the episodes has another answer, or the same text."""
  return {
    'changed_answer': changed_answers(*zip(*keys, strict=True)).astype(float),
    'frac_identical': np.array([float(one == other) for one, other in texts]),
  }


def _rate_parts(
  correct: np.ndarray,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Numerator and denominator of each rate by episode, but for empty ones."""
  pair = metrics.transitions(correct)
  before = correct[:, 0].astype(float)
  parts = {
    'correction_rate': (pair['i_to_c'], 1 - before),
    'spoiling_rate': (pair['c_to_i'], before),
  }
  return {name: part for name, part in parts.items() if part[1].any()}


def summarize(
  texts: Sequence[tuple[str, str]],
  keys: Sequence[tuple[Hashable | None, Hashable | None]],
  correct: np.ndarray,
  *,
  samples_per_problem: int = 1,
  seed: int = 0,
) -> dict[str, Any]:
  """All measures of the change from the first attempt to the second.

  Args:
    texts: first and second attempt of each of M * G episodes.
    keys: their answers.
    correct: bool [M * G, K].
    samples_per_problem: G.
    seed: of the bootstrap.

  Returns:
    `transitions`, `edit_ratio_histogram`, the shares `changed_answer` and
    `frac_identical` of all episodes with `<name>_ci95`, the mean
    `edit_distance_ratio`, and `conditional_rates`.
  """
  shares = bootstrap.means(
    {
      name: values.reshape(-1, samples_per_problem).mean(axis=1)
      for name, values in _share_columns(texts, keys).items()
    },
    seed=seed,
  )
  result: dict[str, Any] = {'transitions': transition_counts(correct)}
  for name, (mean, interval) in shares.items():
    result |= {name: mean, f'{name}_ci95': interval}
  ratios = [metrics.edit_distance_ratio(*pair) for pair in texts]
  result |= conditional_rates(
    correct, samples_per_problem=samples_per_problem, seed=seed
  )
  return result | {
    'edit_distance_ratio': float(np.mean(ratios)),
    'edit_ratio_histogram': ratio_histogram(ratios),
  }
