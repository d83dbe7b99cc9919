"""The problems of a training step, as a pure function of seed and step."""

from collections.abc import Sequence

import numpy as np

from score_jax import types


def batch_indices(
  num_problems: int, batch_size: int, *, seed: int, step: int
) -> np.ndarray:
  """Indices of the problems of one step.

  Problems are visited in epochs; each epoch is a permutation drawn from (seed,
  epoch), and a batch may span two epochs.

  Returns:
    int64 [batch_size].
  """
  if num_problems < 1:
    raise ValueError('a data set without problems cannot be batched')
  positions = np.arange(step * batch_size, (step + 1) * batch_size)
  epochs, offsets = np.divmod(positions, num_problems)
  permutations = {
    epoch: np.random.default_rng((seed, int(epoch))).permutation(num_problems)
    for epoch in np.unique(epochs)
  }
  return np.array(
    [permutations[e][o] for e, o in zip(epochs, offsets, strict=True)]
  )


def batch(
  problems: Sequence[types.Problem], size: int, seed: int, step: int
) -> list[types.Problem]:
  """The problems of one step, by `batch_indices`."""
  indices = batch_indices(len(problems), size, seed=seed, step=step)
  return [problems[i] for i in indices]
