"""Votes by hand, and their mean over choices of voters by enumeration."""

import itertools

import numpy as np
import pytest

from score_jax.evaluation import voting


@pytest.mark.parametrize(
  ('keys', 'winner'),
  [
    (['a'], 0),
    (['a', 'b', 'b'], 1),
    # Ties go to the answer seen first, whoever reaches the count first.
    (['a', 'b', 'b', 'a'], 0),
    (['b', 'a', 'a', 'b', 'c'], 0),
    # Attempts without an answer abstain, however many they are.
    ([None, None, None, 'a'], 3),
    ([None, 'b', None, 'a', 'a'], 3),
    ([None, None], None),
    ([], None),
    # Keys need not be texts.
    ([1, (2, 3), (2, 3)], 1),
  ],
)
def test_majority(keys, winner):
  assert voting.majority(keys) == winner


def test_all_episodes_vote_in_their_order():
  # Problem 1: a tie of 7 and 8, 7 was first and is right. Problem 2: the same
  # with 8 first. Problem 3: nobody answers.
  keys = [[['7'], ['8']], [['8'], ['7']], [[None], [None]]]
  correct = np.array([[[1], [0]], [[0], [1]], [[0], [0]]], bool)
  assert voting.vote_accuracy(keys, correct, 2).tolist() == [1.0, 0.0, 0.0]


def test_right_by_an_answer_without_key_is_no_vote():
  # What the grader takes for right but nobody can count does not win.
  keys = [[[None], ['8']]]
  correct = np.array([[[1], [0]]], bool)
  assert voting.vote_accuracy(keys, correct, 2).tolist() == [0.0]


def test_smaller_votes_against_all_choices():
  # Two of five episodes, every ordered choice: what random ones tend to.
  keys = [[['a', 'b'], ['a', 'a'], ['b', 'b'], ['c', None], [None, None]]]
  correct = np.array([[[k == 'b' for k in row] for row in keys[0]]])
  expected = np.mean(
    [
      voting._is_right(keys[0], correct[0], np.array(order))
      for order in itertools.permutations(range(5), 2)
    ]
  )
  found = voting.vote_accuracy(keys, correct, 2, draws=4000)
  # Of the 20 ordered pairs of (ab, aa, bb, c, -), b wins in both orders of bb
  # with ab, with c and with -, and with aa where bb comes first: 7.
  assert expected == pytest.approx(7 / 20)
  assert found == pytest.approx([expected], abs=4 * 0.5 / np.sqrt(4000))


def test_depends_on_the_seed_alone():
  rng = np.random.default_rng(0)
  keys = rng.integers(0, 4, (20, 8, 1)).tolist()
  correct = np.array(keys) == 2
  first = voting.vote_accuracy(keys, correct, 4, seed=1)
  np.testing.assert_array_equal(
    first, voting.vote_accuracy(keys, correct, 4, seed=1)
  )
  assert (first != voting.vote_accuracy(keys, correct, 4, seed=2)).any()


def test_more_voters_than_samples_are_rejected():
  with pytest.raises(ValueError, match='a vote of 3 episodes needs as many'):
    voting.vote_accuracy([[['a'], ['b']]], np.zeros((1, 2, 1), bool), 3)


def test_equal_answers_get_one_key():
  equal = {frozenset(('1/2', '0.5')), frozenset(('1/2', '2/4'))}
  asked = []

  def same(ones, others):
    asked.extend(zip(ones, others))
    return [frozenset(pair) in equal for pair in zip(ones, others)]

  keys = [
    [['0.5'], ['1/2'], ['1/2'], [None]],
    [['0.5'], ['3'], [7], ['3']],
  ]
  merged = voting.merge_equivalent(keys, same)
  assert merged == [
    [['1/2'], ['1/2'], ['1/2'], [None]],
    [['0.5'], ['3'], [7], ['3']],
  ]
  # The more frequent is the one that the other is compared with.
  assert asked == [('1/2', '0.5'), ('3', '0.5')]


def test_equality_is_followed_through():
  # a = b and b = c, though a = c was not seen.
  equal = [('a', 'b'), ('b', 'c')]
  keys = [[['a'], ['a'], ['a'], ['b'], ['b'], ['c'], ['d']]]
  merged = voting.merge_equivalent(
    keys, lambda ones, others: [pair in equal for pair in zip(ones, others)]
  )
  assert merged == [[['a']] * 6 + [['d']]]


def test_only_the_most_frequent_are_compared():
  keys = [[[str(i)] for i in range(20)]]
  asked = []

  def same(ones, others):
    asked.extend(ones)
    return [False] * len(ones)

  assert voting.merge_equivalent(keys, same, most=4) == keys
  assert len(asked) == 6
