"""Halving finds what a slow look at every sequence finds."""

import itertools

import numpy as np
import pytest

from experiments import replay


@pytest.mark.parametrize('count', [1, 2, 5, 8])
def test_every_set_of_bad_sequences_is_found(count):
  rows = np.arange(count)
  for bad in itertools.product((False, True), repeat=count):
    if not any(bad):
      continue
    calls = []

    def is_finite(part, bad=bad, calls=calls):
      calls.append(part)
      return not any(bad[row] for row in part)

    found = list(replay.alone(rows, is_finite))
    assert sorted(found) == [row for row in rows if bad[row]]
    assert len(calls) <= 2 * sum(bad) * (count - 1).bit_length()


def test_one_of_many_takes_few_updates():
  calls = []

  def is_finite(part):
    calls.append(part)
    return 137 not in part

  assert list(replay.alone(np.arange(384), is_finite)) == [137]
  assert len(calls) == 16


def test_the_first_found_are_far_apart():
  found = replay.alone(np.arange(8), lambda part: False)
  assert list(found) == [0, 4, 2, 6, 1, 5, 3, 7]


def test_what_several_do_together_is_no_single_one():
  assert not list(replay.alone(np.arange(8), lambda part: len(part) < 8))
