"""Batches as a pure function of the step."""

import collections

import numpy as np
import pytest

from score_jax.tasks import batches


def epochs(num_problems, batch_size, steps, seed=0):
  """All indices of so many steps, one after the other."""
  return np.concatenate(
    [
      batches.batch_indices(num_problems, batch_size, seed=seed, step=step)
      for step in range(steps)
    ]
  )


@pytest.mark.parametrize(
  ('num_problems', 'batch_size'), [(12, 4), (10, 4), (3, 7), (1, 5)]
)
def test_every_epoch_has_every_problem_once(num_problems, batch_size):
  steps = 3 * num_problems
  indices = epochs(num_problems, batch_size, steps)
  assert len(indices) == steps * batch_size
  whole = len(indices) // num_problems
  for epoch in range(whole):
    part = indices[epoch * num_problems : (epoch + 1) * num_problems]
    assert sorted(part) == list(range(num_problems))
  counts = collections.Counter(indices.tolist())
  assert max(counts.values()) - min(counts.values()) <= 1


def test_a_step_needs_no_step_before_it():
  np.testing.assert_array_equal(
    batches.batch_indices(100, 8, seed=3, step=40),
    epochs(100, 8, 41, seed=3)[-8:],
  )


def test_epochs_and_seeds_are_shuffled_differently():
  first = epochs(50, 50, 2)
  assert first[:50].tolist() != first[50:].tolist()
  assert first[:50].tolist() != list(range(50))
  assert first[:50].tolist() != epochs(50, 50, 1, seed=1).tolist()


def test_no_problems_is_an_error():
  with pytest.raises(ValueError, match='problems'):
    batches.batch_indices(0, 4, seed=0, step=0)
