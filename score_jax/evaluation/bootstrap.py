"""Confidence intervals of means over problems and seeds, and paired tests."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import special

# Of the intervals of means. Not 0.025, whose last bits differ: results on disk
# are compared with repeated ones.
_TAIL = (1 - 0.95) / 2
# Numbers in memory at once while resampling.
_CHUNK = 4_000_000


def _resampled_means(
  values: np.ndarray, seed: int, resamples: int
) -> np.ndarray:
  """Means of M rows drawn with replacement: [M, Q] -> [resamples, Q].

  The counts of distinct rows are multinomial, so that two turns of right and
  wrong cost four numbers a resample, however many problems there are.
  """
  rows, counts = np.unique(values, axis=0, return_counts=True)
  rng = np.random.default_rng(seed)
  size = max(1, _CHUNK // len(rows))
  means = []
  for start in range(0, resamples, size):
    drawn = rng.multinomial(
      len(values), counts / len(values), size=min(size, resamples - start)
    )
    means.append(drawn @ rows / len(values))
  return np.concatenate(means)


def intervals(
  values: np.ndarray,
  *,
  seed: int = 0,
  resamples: int = 10_000,
) -> np.ndarray:
  """95 % percentile intervals of means, by resampling whole problems.

  The columns of a problem stay together (paired), so that the interval of a
  difference reflects the correlation of its sides. A column without variation
  has an interval of width 0, although an event that did not occur in M problems
  may have a probability of up to 3 / M (the usual 95 % bound).

  Args:
    values: [M, Q], Q numbers of each problem.
    seed: of the resampling.
    resamples: number of resampled data sets.

  Returns:
    float64 [Q, 2], low and high.
  """
  means = _resampled_means(values, seed, resamples)
  return np.quantile(means, [_TAIL, 1 - _TAIL], axis=0).T


def means(
  columns: Mapping[str, np.ndarray], *, seed: int = 0, resamples: int = 10_000
) -> dict[str, tuple[float, list[float]]]:
  """Mean and 95 % interval of each column [M], problems resampled together."""
  bounds = intervals(
    np.stack(list(columns.values()), axis=1), seed=seed, resamples=resamples
  )
  return {
    name: (float(np.mean(values)), [float(bound) for bound in interval])
    for (name, values), interval in zip(columns.items(), bounds, strict=True)
  }


def ratio(
  part: np.ndarray,
  whole: np.ndarray,
  *,
  seed: int = 0,
  resamples: int = 10_000,
) -> tuple[float, list[float]]:
  """sum(part) / sum(whole), and its 95 % interval.

  E.g. of corrected and wrong problems: the number of wrong ones is random, too,
  and is resampled with the rest.

  Args:
    part: [M], at most `whole`.
    whole: [M], not all zero.
    seed: of the resampling.
    resamples: number of resampled data sets; those with sum(whole) = 0 are
      left out.
  """
  values = np.stack([part, whole], axis=1).astype(float)
  parts, wholes = _resampled_means(values, seed, resamples).T
  drawn = parts[wholes > 0] / wholes[wholes > 0]
  low, high = np.quantile(drawn, [0.025, 0.975])
  return float(np.sum(part) / np.sum(whole)), [float(low), float(high)]


def ratio_values(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
  """Numbers [M] whose mean is sum(part) / sum(whole), for `margin_over_seeds`.

  Their variance over problems is that of the ratio to first order (the delta
  method).

  Args:
    part: [M].
    whole: [M], not all zero.
  """
  rate = np.sum(part) / np.sum(whole)
  return rate + (part - rate * whole) / np.mean(whole)


def margin_over_seeds(values: np.ndarray) -> float:
  """Half the width of a mean's 95 % interval, over S seeds and M problems.

  Every seed is asked the same problems, so that the two are crossed: a value is
  mean + effect of the seed + effect of the problem + rest. The first and the
  last vary the seeds' means, and the mean of these by their variance / S. What
  problems do to all seeds alike is the covariance of two seeds over problems;
  it varies the mean by that / M, however many seeds there are. Student's t of
  S - 1 degrees of freedom for the one and the normal quantile for the other
  give two margins, which add up as independent errors do.

  Resampling seeds and problems (the pigeonhole bootstrap of Owen, 2007) has the
  same parts, but the percentiles of a few seeds are far too narrow: 82 %
  instead of 95 with three seeds that differ by 10 points. Taking all S * M
  values for independent leaves out the seeds: 30 %.

  For two methods with the same seeds, `values` are the differences at each seed
  and problem: what both share cancels.

  Args:
    values: [S, M], S and M at least 2.
  """
  seeds, problems = values.shape
  error = values.mean(axis=1).std(ddof=1) / np.sqrt(seeds)
  covariance = np.cov(values)
  shared = (covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1))
  # An estimate may be negative where there is nothing to estimate.
  error_of_problems = np.sqrt(max(shared, 0.0) / problems)
  return float(
    np.hypot(
      special.stdtrit(seeds - 1, 1 - _TAIL) * error,
      special.ndtri(1 - _TAIL) * error_of_problems,
    )
  )


def paired_test(
  first: np.ndarray,
  second: np.ndarray,
  *,
  seed: int = 0,
  resamples: int = 10_000,
) -> dict[str, Any]:
  """Paired test that two policies' means over the same problems differ.

  Args:
    first: [M], a number for each problem under one policy, such as
      `correct[:, 1]` or `transitions(correct)['delta']`.
    second: [M], under the other policy, in the same order.
    seed: of the bootstrap.
    resamples: of the bootstrap.

  Returns:
    `difference` (second - first), `difference_ci95`, and `p_value`: two-sided,
    twice the share of resampled differences at or beyond zero; at least
    2 / (resamples + 1).

  Raises:
    ValueError: there are no problems, or different numbers of them.
  """
  if len(first) != len(second) or not len(first):
    raise ValueError(
      f'{len(first)} problems against {len(second)}: a paired test needs the '
      'same problems, in the same order, and at least one'
    )
  gain = np.asarray(second, float) - np.asarray(first, float)
  means = _resampled_means(gain[:, None], seed, resamples)[:, 0]
  beyond = min((means <= 0).sum(), (means >= 0).sum())
  low, high = np.quantile(means, [0.025, 0.975])
  return {
    'difference': float(gain.mean()),
    'difference_ci95': [float(low), float(high)],
    'p_value': float(min(1.0, 2 * (beyond + 1) / (resamples + 1))),
  }
