"""Which sequences and problems go to which part."""

import numpy as np
import pytest

from score_jax.training import batch_parts

# Four problems of two samples: sequence 21 is problem 2's second.
SEQUENCES = np.array([0, 1, 10, 11, 20, 21, 30, 31])


def test_mini_batches_have_whole_problems():
  parts = batch_parts.split_problems(
    (SEQUENCES, SEQUENCES[:, None] + [[0, 100]]), 2, samples_per_problem=2
  )
  assert parts[0].tolist() == [[0, 1, 20, 21], [10, 11, 30, 31]]
  assert parts[1].shape == (2, 4, 2)
  assert parts[1][1, 2].tolist() == [30, 130]


def test_micro_batches_have_neighbours_apart():
  parts = batch_parts.split_batch(SEQUENCES, 2)
  assert parts.tolist() == [[0, 10, 20, 30], [1, 11, 21, 31]]


def test_problems_must_divide_into_mini_batches():
  with pytest.raises(ValueError, match='4 problems do not divide into 3'):
    batch_parts.split_problems(SEQUENCES, 3, samples_per_problem=2)
