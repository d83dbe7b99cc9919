"""The penalty for attempts near their limit, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.algorithm import overlong

pytestmark = pytest.mark.usefixtures('quick_compilation')


def turns_of(*lengths):
  """Sequences whose attempts have these numbers of tokens, i32 [B, 30]."""
  turn = np.zeros((len(lengths), 30), np.int32)
  for row, (first, second) in zip(turn, lengths):
    row[2 : 2 + first] = 1
    row[16 : 16 + second] = 2
  return jnp.asarray(turn)


def test_eq_13_of_dapo():
  # Limits of 10 and 12 tokens, a buffer of 4. Turn 1 is free up to 6 tokens,
  # turn 2 up to 8; then a quarter for each further one.
  penalty = overlong.soft_penalty(
    turns_of((0, 8), (6, 9), (7, 10), (9, 11), (10, 12)), (10, 12), 4
  )
  np.testing.assert_array_equal(
    penalty, [[0, 0], [0, -0.25], [-0.25, -0.5], [-0.75, -0.75], [-1, -1]]
  )


def test_a_buffer_of_one_token_is_a_limit():
  # As the rule has it: only an attempt of the limit's length pays.
  penalty = overlong.soft_penalty(turns_of((9, 10), (10, 1)), (10, 10), 1)
  np.testing.assert_array_equal(penalty, [[0, -1], [-1, 0]])
