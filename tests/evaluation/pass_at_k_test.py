"""pass@k against its definition: all choices of k of the samples."""

import itertools

import numpy as np
import pytest

from score_jax.evaluation import pass_at_k


def by_enumeration(correct, k):
  return [
    np.mean([any(chosen) for chosen in itertools.combinations(row, k)])
    for row in correct
  ]


@pytest.mark.parametrize('k', range(1, 8))
def test_against_all_choices(k):
  # Every number of right samples from 0 to 7, in some order.
  rng = np.random.default_rng(0)
  correct = np.array([rng.permutation(np.arange(7) < c) for c in range(8)])
  np.testing.assert_allclose(
    pass_at_k.pass_at_k(correct, k), by_enumeration(correct, k), atol=1e-12
  )


def test_by_hand():
  # 2 of 4 right, two tries: 1 - C(2, 2) / C(4, 2) = 5/6.
  correct = np.array([[True, False, False, True]])
  assert pass_at_k.pass_at_k(correct, 2) == pytest.approx([5 / 6])


def test_turns_are_apart():
  correct = np.random.default_rng(0).random((5, 6, 2)) < 0.3
  both = pass_at_k.pass_at_k(correct, 3)
  assert both.shape == (5, 2)
  for turn in range(2):
    np.testing.assert_allclose(
      both[:, turn], by_enumeration(correct[:, :, turn], 3), atol=1e-12
    )


def test_large_numbers_of_samples():
  # Binomial coefficients of 2000 overflow floats; the product does not. One
  # right sample of 2000 is among 500 with probability 1/4.
  correct = np.arange(2000)[None] == 7
  assert pass_at_k.pass_at_k(correct, 500) == pytest.approx([0.25])


@pytest.mark.parametrize('k', [0, 5])
def test_too_many_or_no_tries_are_rejected(k):
  with pytest.raises(ValueError, match=f'pass@{k} needs 1 <= k <= 4'):
    pass_at_k.pass_at_k(np.zeros((1, 4), bool), k)
