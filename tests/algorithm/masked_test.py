"""Sums per attempt, and means as pairs."""

import jax
import jax.numpy as jnp
import numpy as np

from score_jax.algorithm import masked

TURN = jnp.array([[0, 1, 1, 0, 2], [0, 0, 2, 2, 0]])
VALUES = jnp.array([[9.0, 1, 2, 9, 4], [9, 9, 8, 16, 9]])


def test_turn_sums_by_hand():
  # Row 0: 1 + 2 and 4; row 1 has no first attempt, and 8 + 16.
  sums = masked.turn_sums(VALUES, TURN, 2)
  np.testing.assert_array_equal(sums, [[3, 4], [0, 24]])
  np.testing.assert_array_equal(
    masked.turn_sums(VALUES, TURN, 3), [[3, 4, 0], [0, 24, 0]]
  )
  np.testing.assert_array_equal(masked.turn_lengths(TURN, 2), [[2, 1], [0, 2]])
  assert masked.turn_lengths(TURN, 2).dtype == jnp.int32


def test_given_tokens_are_not_read():
  poisoned = jnp.where(TURN == 0, jnp.nan, VALUES)
  np.testing.assert_array_equal(
    masked.turn_sums(poisoned, TURN, 2), [[3, 4], [0, 24]]
  )
  gradient = jax.grad(lambda v: masked.turn_sums(v, TURN, 2).sum())(poisoned)
  np.testing.assert_array_equal(gradient, (TURN > 0).astype(np.float32))


def test_sums_are_f32_whatever_comes_in():
  # 1 + 256 copies of 1/256: in bf16 the small ones would be lost.
  values = jnp.concatenate(
    [jnp.ones((1, 1)), jnp.full((1, 256), 1 / 256)], axis=1
  ).astype(jnp.bfloat16)
  sums = masked.turn_sums(values, jnp.ones((1, 257), jnp.int32), 1)
  assert sums.dtype == jnp.float32
  assert float(sums[0, 0]) == 2.0


def test_means_of_parts_and_whole():
  # Means of parts of unequal size do not average: (2 + 4 + 12) / 3 = 6, but
  # the mean of the means 3 and 12 is 7.5.
  values = jnp.array([2.0, 4, 12, 99])
  mask = jnp.array([True, True, True, False])
  parts = [
    masked.sum_and_count(values[:2], mask[:2]),
    masked.sum_and_count(values[2:], mask[2:]),
  ]
  total = jax.tree.map(jnp.add, *parts)
  assert masked.means({'x': total}) == {'x': 6.0}
  assert masked.means({'x': masked.sum_and_count(values, mask)}) == {'x': 6.0}


def test_mean_of_nothing_is_left_out():
  empty = masked.sum_and_count(VALUES, TURN == 7)
  assert masked.means({'empty': empty}) == {}
