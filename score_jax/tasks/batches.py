"""Which problems a step trains on: a pure function, with no state to keep."""

import numpy as np


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
