"""How sure a mean over problems is, and a difference between policies."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# Numbers that are held at once while resampling.
_CHUNK = 4_000_000


def _resampled_means(
  values: np.ndarray, seed: int, resamples: int
) -> np.ndarray:
  """Means of M rows drawn with replacement: [M, Q] -> [resamples, Q].

  How often each distinct row is drawn is multinomial, so that two turns with
  right and wrong cost four numbers a resample, however many problems there are.
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
  level: float = 0.95,
) -> np.ndarray:
  """Percentile intervals of means, by resampling whole problems.

  The columns of a problem stay together (paired), so that the interval of a
  difference takes account of how much the two sides agree. A column without
  variation has an interval of width 0: that nothing was seen in M problems does
  not say that there is nothing (3 / M is the usual 95 % bound then).

  Args:
    values: [M, Q], Q numbers of each problem.
    seed: of the resampling.
    resamples: number of resampled data sets.
    level: coverage.

  Returns:
    float64 [Q, 2], low and high.
  """
  means = _resampled_means(values, seed, resamples)
  tail = (1 - level) / 2
  return np.quantile(means, [tail, 1 - tail], axis=0).T


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
  """A share of a part of the problems, and its 95 % interval.

  sum(part) / sum(whole), e.g. of the corrected and the wrong ones: how many
  problems the share is of is a matter of chance, too, and so is resampled.

  Args:
    part: [M], at most `whole`.
    whole: [M], not all zero.
    seed: of the resampling.
    resamples: number of resampled data sets; those whose whole is 0 are left
      out.
  """
  values = np.stack([part, whole], axis=1).astype(float)
  parts, wholes = _resampled_means(values, seed, resamples).T
  drawn = parts[wholes > 0] / wholes[wholes > 0]
  low, high = np.quantile(drawn, [0.025, 0.975])
  return float(np.sum(part) / np.sum(whole)), [float(low), float(high)]


def paired_test(
  first: np.ndarray,
  second: np.ndarray,
  *,
  seed: int = 0,
  resamples: int = 10_000,
) -> dict[str, Any]:
  """Whether the second policy's mean differs, on the same problems.

  Args:
    first: [M], a number of each problem under one policy, e.g. `correct[:, 1]`
      or `transitions(correct)['delta']`.
    second: [M], under the other policy, in the same order.
    seed: of the bootstrap.
    resamples: of the bootstrap.

  Returns:
    `difference` (second - first), `difference_ci95`, and `p_value`: two-sided,
    twice the share of resampled differences at or beyond zero; at least
    2 / (resamples + 1).

  Raises:
    ValueError: the policies were not measured on the same number of problems.
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
