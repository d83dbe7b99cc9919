"""Probability that at least one of k samples is right."""

import numpy as np


def pass_at_k(correct: np.ndarray, k: int) -> np.ndarray:
  """Unbiased pass@k of each problem from G >= k samples.

  1 - C(G - c, k) / C(G, k) with c right samples: the share of all subsets of k
  of the G samples that have a right one (Chen et al., arXiv:2107.03374, Eq. 1).

  Args:
    correct: bool [N, G, ...], G samples of each of N problems.
    k: size of the subsets.

  Returns:
    float64 [N, ...].

  Raises:
    ValueError: k is not in [1, G].
  """
  samples = correct.shape[1]
  if not 1 <= k <= samples:
    raise ValueError(f'pass@{k} needs 1 <= k <= {samples}, the samples drawn')
  wrong = samples - correct.sum(axis=1)
  missed = np.ones(wrong.shape)
  # Drawn one by one: P(all wrong) as a product, where binomials would overflow.
  for i in range(k):
    missed *= np.maximum(wrong - i, 0) / (samples - i)
  return 1.0 - missed
