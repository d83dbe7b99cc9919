"""Off-policy attempts: from texts, from problems, from another trajectory."""

import types as python_types

import numpy as np

from score_jax import types
from score_jax.rollout import given_attempts
from tests.support import small_batch

# Two ids for each letter, then a stop token: no tokenizer needed.
FORMAT = python_types.SimpleNamespace(
  attempt_ids=lambda text: [id_ for c in text for id_ in (ord(c), 7)] + [1]
)
A, B = ord('a'), ord('b')


def test_texts_are_cut_at_their_turns_max_new_tokens():
  given = given_attempts.encode(
    FORMAT,
    [[types.Attempt('ab'), None], [None, types.Attempt('ab')]],
    max_new_tokens=(5, 3),
  )
  assert given.length.tolist() == [[5, 0], [0, 3]]
  assert given.tokens.shape == (2, 2, 5)
  assert given.tokens[0, 0].tolist() == [A, 7, B, 7, 1]
  assert given.tokens[1, 1].tolist() == [A, 7, B, 0, 0]
  assert not given.tokens[0, 1].any()


def test_problems_with_and_without_a_given_attempt():
  problems = [
    types.Problem(str(i), 'sums', '', '', columns)
    for i, columns in enumerate(({}, {'given_attempt': 'a'}))
  ]
  given = given_attempts.of_problems(FORMAT, problems, 2, (4, 4))
  assert given.length.tolist() == [[0, 0], [0, 0], [3, 0], [3, 0]]
  assert given.tokens[3, 0].tolist() == [A, 7, 1, 0]
  assert given_attempts.of_problems(FORMAT, problems[:1], 2, (4, 4)) is None


def test_none_is_given():
  given = given_attempts.none(3, 2)
  assert given.length.tolist() == [[0, 0]] * 3
  assert given.tokens.shape == (3, 2, 1)


def test_second_attempts_become_first_ones():
  trajectory = small_batch.make_batch().trajectory
  given = given_attempts.first_attempts_of(
    trajectory, attempt=2, turns=2, max_new_tokens=4
  )
  # The last column of PIECES.
  assert given.length.tolist() == [[n, 0] for n in (3, 4, 4, 1, 2, 1, 4, 3)]
  # Sequence 3: a prompt of 2 tokens, 2 of attempt 1, 2 given, then 1.
  assert given.tokens[3, 0].tolist() == [int(trajectory.tokens[3, 6]), 0, 0, 0]
  assert not given.tokens[:, 1].any()


def test_the_first_samples_of_each_problem_are_given_one():
  # Two problems of four sequences each, given to four of six new ones.
  trajectory = small_batch.make_batch().trajectory
  given = given_attempts.first_attempts_of(
    trajectory,
    attempt=1,
    turns=3,
    max_new_tokens=5,
    given_per_problem=4,
    samples_per_problem=6,
  )
  assert given.tokens.shape == (12, 3, 5)
  first = [3, 1, 4, 2, 0, 0, 3, 1, 3, 2, 0, 0]
  assert given.length[:, 0].tolist() == first
  assert not given.length[:, 1:].any()
  tokens = np.asarray(trajectory.tokens)
  # Problem 1's third sample is sequence 6: 3 tokens after a prompt of 3.
  assert given.tokens[8, 0, :3].tolist() == tokens[6, 3:6].tolist()
