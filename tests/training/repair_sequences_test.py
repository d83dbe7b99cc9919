"""Sequences are spliced token by token from sampled episodes."""

import jax
import numpy as np
import pytest

from score_jax import arrays
from score_jax.algorithm import repair_pairs
from score_jax.training import repair_sequences
from tests.support import small_batch, small_models

pytestmark = pytest.mark.usefixtures('quick_compilation')


def pairs_of(*rows):
  first, second, turn, right = zip(*rows)
  return repair_pairs.Pairs(
    np.array(first), np.array(second), np.array(turn), np.array(right)
  )


@pytest.fixture(scope='module')
def episodes():
  return jax.device_get(small_batch.make_batch().trajectory)


def test_sequences_by_hand(episodes):
  # PIECES of row 0: prompt 2, attempt 3, instruction 2, attempt 3; of row 3:
  # 2, 2, 2, 1; of row 6: 3, 3, 2, 4.
  pairs = pairs_of((0, 0, 2, False), (3, 6, 1, True), (6, 3, 2, False))
  rows = repair_sequences.splice(episodes, pairs, length=14)
  t = episodes.tokens
  expected = [
    [*t[0, :7], *t[0, 7:10]],
    # Prompt, first attempt and instruction of row 3; row 6's first attempt.
    [*t[3, :6], *t[6, 3:6]],
    [*t[6, :8], *t[3, 6:7]],
  ]
  for i, tokens in enumerate(expected):
    assert rows.length[i] == len(tokens)
    np.testing.assert_array_equal(rows.tokens[i, : len(tokens)], tokens)
    assert not rows.tokens[i, len(tokens) :].any()
  assert rows.turn[1].tolist() == [0, 0, 1, 1, 0, 0, 2, 2, 2, 0, 0, 0, 0, 0]
  assert rows.turn[2].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 2, 0, 0, 0, 0, 0]
  assert rows.problem_index.tolist() == [0, 0, 1]
  assert not rows.sampled.any()
  assert not rows.logprobs.any()


def test_a_pair_from_one_episode_is_that_episode():
  # Real episodes: some attempts end, some are cut off.
  episodes = jax.device_get(small_models.run('gemma3', turns=2))
  everything = np.arange(len(episodes.length))
  pairs = repair_pairs.Pairs(
    everything, everything, np.full(len(everything), 2), everything > 0
  )
  rows = repair_sequences.splice(episodes, pairs, episodes.tokens.shape[1])
  inside = np.arange(rows.tokens.shape[1]) < episodes.length[:, None]
  np.testing.assert_array_equal(
    rows.tokens, np.where(inside, episodes.tokens, 0)
  )
  np.testing.assert_array_equal(rows.turn, episodes.turn)
  np.testing.assert_array_equal(rows.length, episodes.length)
  np.testing.assert_array_equal(rows.finished, episodes.finished)


def test_what_follows_a_first_attempt_is_right_for_it():
  # The separator is longer after an attempt that was cut off, wherever the
  # second attempt comes from.
  episodes = jax.device_get(small_models.run('gemma3', turns=2))
  assert episodes.finished[:, 0].any()
  assert not episodes.finished[:, 0].all()
  count = len(episodes.length)
  pairs = repair_pairs.Pairs(
    np.arange(count), np.arange(count)[::-1], np.ones(count, int),
    np.zeros(count, bool),
  )  # fmt: skip
  rows = repair_sequences.splice(episodes, pairs, 64)
  for i in range(count):
    first = np.flatnonzero(rows.turn[i] == 1)
    begin = np.flatnonzero(rows.turn[i] == 2)[0]
    given = 2 if episodes.finished[i, 0] else 3
    assert begin - first[-1] - 1 == given
    assert rows.finished[i].tolist() == [
      episodes.finished[i, 0], episodes.finished[count - 1 - i, 0]
    ]  # fmt: skip


def test_a_sequence_that_does_not_fit_is_rejected(episodes):
  # 7 tokens before it, 4 in row 1's second attempt.
  with pytest.raises(ValueError, match='pair 0 has 11 tokens'):
    repair_sequences.splice(episodes, pairs_of((0, 1, 2, False)), length=10)


def test_batches_of_other_lengths_are_joined(episodes):
  short = episodes.replace(
    **{
      name: getattr(episodes, name)[:2, :11]
      for name in ('tokens', 'turn', 'logprobs')
    },
    sampled=episodes.sampled[:2],
    length=episodes.length[:2],
    finished=episodes.finished[:2],
    problem_index=episodes.problem_index[:2],
  )
  both = arrays.concatenate([short, episodes], np)
  assert both.tokens.shape == (10, 12)
  np.testing.assert_array_equal(both.tokens[:2, :11], short.tokens)
  assert not both.turn[:2, 11].any()
  np.testing.assert_array_equal(both.tokens[2:], episodes.tokens)
  np.testing.assert_array_equal(both.length[2:], episodes.length)
  some = repair_sequences.take(both, np.array([9, 2]))
  np.testing.assert_array_equal(some.tokens, episodes.tokens[[7, 0]])
  assert some.finished.shape == (2, 2)


@pytest.mark.parametrize(
  ('learn', 'first'),
  [('second', [0, 0]), ('right', [0, 1]), ('both', [1, 1])],
)
def test_loss_masks(learn, first):
  pairs = pairs_of((0, 0, 2, False), (1, 2, 1, True))
  loss_mask = repair_sequences.attempt_loss_mask(pairs, learn)
  assert loss_mask.dtype == bool
  np.testing.assert_array_equal(loss_mask, np.stack([first, [1, 1]], axis=1))


def test_no_other_loss_masks():
  with pytest.raises(ValueError, match='first'):
    repair_sequences.attempt_loss_mask(pairs_of((0, 0, 2, False)), 'first')
