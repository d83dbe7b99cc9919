"""Short sequences in programs of their own give the same update."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from score_jax.algorithm import stage_coefficients
from score_jax.training import (
  batch_parts,
  length_buckets,
  rl_update,
  train_state,
)
from tests.support import small_batch

pytestmark = pytest.mark.usefixtures('quick_compilation')

SGD = optax.sgd(1.0)
STAGE = stage_coefficients.make_stage([1.0, 1.0], [0.0, 10.0], [0.3, 0.7])


@pytest.mark.parametrize(
  ('longest', 'count', 'expected'),
  [
    # Too short for tiles of 128: thirds, rounded up.
    (65, 1, (65,)),
    (65, 3, (22, 44, 65)),
    # Quarters are 656, 1312, 1968: rounded up to tiles; the last stays.
    (2624, 4, (768, 1408, 2048, 2624)),
    (512, 4, (128, 256, 384, 512)),
    # Halves of one token are one length.
    (1, 2, (1,)),
  ],
)
def test_lengths(longest, count, expected):
  assert length_buckets.lengths(longest, count) == expected


def test_micro_batches_go_from_short_to_long():
  length = jnp.array([9, 4, 7, 1, 8, 3])
  tree = {'row': jnp.arange(6), 'length': length}
  dealt = length_buckets.deal_by_length(tree, length, parts=3)
  parts = batch_parts.split_batch(dealt, 3)
  assert parts['length'].tolist() == [[1, 3], [4, 7], [8, 9]]
  assert parts['row'].tolist() == [[3, 5], [1, 2], [4, 0]]


@pytest.mark.parametrize(
  ('longest', 'expected'), [(1, 4), (4, 4), (5, 8), (8, 8), (9, 12), (12, 12)]
)
def test_sequences_are_cut_to_the_shortest_length_that_fits(longest, expected):
  batch = small_batch.make_batch()
  length = jnp.ones(8, jnp.int32).at[3].set(longest)
  batch = batch.replace(trajectory=batch.trajectory.replace(length=length))

  def width(part):
    cut = part[0].trajectory
    # Columns, counted in a shape that is always the same.
    assert cut.turn.shape == cut.logprobs.shape == cut.tokens.shape
    return jnp.ones_like(cut.tokens).sum() // 8

  found = length_buckets.at_own_length(width, 3)((batch, jnp.ones((8, 2))))
  assert int(found) == expected


# Sequences of small_batch have 7, 7, 9, 10, 10, 10, 12 and 12 tokens: of four
# parts the first is cut to 8 of 12.
def test_the_update_is_the_same():
  config = small_batch.CONFIG
  policy, reference = small_batch.params(0), small_batch.params(1)
  loss_mask = jnp.ones((8, 2), bool).at[2, 0].set(False)

  def update(**options):
    step = rl_update.make_train_step(config, SGD, attempt_tokens=8, **options)
    return small_batch.gradient(
      step,
      train_state.init_state(policy, SGD),
      reference,
      small_batch.make_batch(),
      loss_mask,
      STAGE,
    )

  expected, metrics = update()
  found, same = update(micro_batches=4, length_buckets=3)
  small_batch.assert_close(found, expected, atol=1e-5)
  for name, (total, count) in metrics.items():
    np.testing.assert_allclose(same[name][0], total, rtol=1e-4, atol=1e-5)
    assert same[name][1] == count
