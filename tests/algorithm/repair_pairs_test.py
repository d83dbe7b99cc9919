"""Exactly which pairs enter D and D+, by hand."""

import numpy as np
import pytest

from score_jax.algorithm import repair_pairs

# Six episodes at problem 7, three at problem 2, two at problem 5.
#   row      0       1       2       3       4       5
SCORES = [(0, 1), (0, 0), (1, 1), (1, 0), (0, 1), (0, 0)]
#   row      6       7       8       9       10
SCORES += [(0, 1), (1, 1), (0, 0), (0, 0), (0, 0)]
PROBLEM = np.array([7] * 6 + [2] * 3 + [5] * 2)
SCORE = np.array(SCORES, np.float32)
GRADED = np.ones(SCORE.shape, bool)
# Row 4's second attempt and row 5's first could not be graded.
GRADED[4, 1] = GRADED[5, 0] = False


def as_tuples(pairs):
  return list(
    zip(
      pairs.first_row.tolist(),
      pairs.second_row.tolist(),
      pairs.second_turn.tolist(),
      pairs.first_right.tolist(),
    )
  )


class TestStar:
  def test_wrong_then_right(self):
    # Row 4 would be one, but is ungraded; row 3 goes from right to wrong.
    pairs = repair_pairs.star(SCORE, GRADED, PROBLEM)
    assert as_tuples(pairs) == [(0, 0, 2, False), (6, 6, 2, False)]

  def test_plus_has_both_right_too(self):
    pairs = repair_pairs.star(SCORE, GRADED, PROBLEM, both_right=True)
    assert as_tuples(pairs) == [
      (0, 0, 2, False), (2, 2, 2, True), (6, 6, 2, False), (7, 7, 2, True)
    ]  # fmt: skip

  def test_partial_scores_are_right_from_the_threshold_on(self):
    score = np.array([[0.4, 0.5], [0.5, 0.6]], np.float32)
    graded, problem = np.ones((2, 2), bool), np.zeros(2, int)
    pairs = repair_pairs.star(score, graded, problem)
    assert as_tuples(pairs) == [(0, 0, 2, False)]
    strict = repair_pairs.star(score, graded, problem, threshold=0.6)
    assert as_tuples(strict) == [(1, 1, 2, False)]


class TestPairSFT:
  # Right attempts (row, turn) at problem 7: (0, 2), (2, 1), (2, 2), (3, 1); at
  # problem 2: (6, 2), (7, 1), (7, 2); at problem 5 none.
  right = {
    7: {(0, 2), (2, 1), (2, 2), (3, 1)},
    2: {(6, 2), (7, 1), (7, 2)},
  }

  def test_every_wrong_first_attempt_of_a_solved_problem(self):
    pairs = repair_pairs.pair_sft(SCORE, GRADED, PROBLEM)
    # Row 4's first attempt is wrong and graded; row 5's is ungraded; rows 9
    # and 10 are of a problem that nobody solved.
    assert pairs.first_row.tolist() == [0, 1, 4, 6, 8]
    assert not pairs.first_right.any()

  def test_plus_starts_from_right_ones_too(self):
    pairs = repair_pairs.pair_sft(SCORE, GRADED, PROBLEM, both_right=True)
    assert pairs.first_row.tolist() == [0, 1, 2, 3, 4, 6, 7, 8]
    assert pairs.first_row[pairs.first_right].tolist() == [2, 3, 7]

  @pytest.mark.parametrize('both_right', [False, True])
  def test_partners_are_drawn_evenly_from_the_right_ones(self, both_right):
    drawn = {7: {}, 2: {}}
    for seed in range(400):
      pairs = repair_pairs.pair_sft(
        SCORE, GRADED, PROBLEM, seed=seed, both_right=both_right
      )
      for first, row, turn, _ in as_tuples(pairs):
        counts = drawn[PROBLEM[first]]
        counts[row, turn] = counts.get((row, turn), 0) + 1
    for problem, counts in drawn.items():
      assert set(counts) == self.right[problem]
      expected = sum(counts.values()) / len(counts)
      # At least 800 draws: five standard deviations.
      deviation = np.sqrt(expected * (1 - 1 / len(counts)))
      for count in counts.values():
        assert abs(count - expected) < 5 * deviation

  def test_the_seed_decides(self):
    def drawn(seed):
      return as_tuples(repair_pairs.pair_sft(SCORE, GRADED, PROBLEM, seed=seed))

    assert drawn(3) == drawn(3)
    assert len({tuple(drawn(seed)) for seed in range(9)}) > 1

  def test_other_problems_do_not_matter(self):
    everything = as_tuples(repair_pairs.pair_sft(SCORE, GRADED, PROBLEM))
    alone = repair_pairs.pair_sft(SCORE[:6], GRADED[:6], PROBLEM[:6])
    assert as_tuples(alone) == everything[:3]

  def test_rows_of_a_problem_may_lie_apart(self):
    order = np.array([0, 6, 1, 7, 9, 2, 3, 8, 4, 10, 5])
    pairs = repair_pairs.pair_sft(SCORE[order], GRADED[order], PROBLEM[order])
    mapped = {order[row] for row in pairs.first_row}
    assert mapped == {0, 1, 4, 6, 8}
    for first, second, turn in zip(
      pairs.first_row, pairs.second_row, pairs.second_turn
    ):
      problem = PROBLEM[order[first]]
      assert (order[second], turn) in self.right[problem]

  def test_nothing_right_is_no_pair(self):
    pairs = repair_pairs.pair_sft(SCORE[9:], GRADED[9:], PROBLEM[9:])
    assert len(pairs) == 0
    assert len(repair_pairs.limit(pairs, PROBLEM[9:])) == 0


class TestLimit:
  def plus(self):
    return repair_pairs.pair_sft(SCORE, GRADED, PROBLEM, both_right=True)

  def test_no_limit_is_everything(self):
    pairs = repair_pairs.limit(self.plus(), PROBLEM, most_per_problem=None)
    assert as_tuples(pairs) == as_tuples(self.plus())
    # No problem has more than ten.
    assert as_tuples(repair_pairs.limit(self.plus(), PROBLEM)) == as_tuples(
      self.plus()
    )

  def test_most_per_problem_counts_both_kinds_apart(self):
    # Repairs: rows 0, 1, 4 of problem 7 and 6, 8 of problem 2; both right: 2
    # and 3 of problem 7, and 7 of problem 2.
    for seed in range(5):
      pairs = repair_pairs.limit(
        self.plus(), PROBLEM, seed=seed, most_per_problem=1
      )
      kept = set(pairs.first_row.tolist())
      assert pairs.first_row.tolist() == sorted(kept)
      for kind in ({0, 1, 4}, {6, 8}, {2, 3}, {7}):
        assert len(kept & kind) == 1
      assert len(kept) == 4

  def test_share_of_both_right(self):
    # Five repairs: for a share of 1/6 one of the three others may stay, for
    # 2/7 two; for 0 none, for 3/8 all.
    for share, count in [(1 / 6, 1), (2 / 7, 2), (0.0, 0), (3 / 8, 3)]:
      pairs = repair_pairs.limit(self.plus(), PROBLEM, right_share=share)
      assert pairs.first_right.sum() == count
      assert (~pairs.first_right).sum() == 5
      assert np.all(np.diff(pairs.first_row) > 0)

  @pytest.mark.parametrize(
    ('options', 'says'),
    [
      ({'most_per_problem': 0}, 'at least 1'),
      ({'right_share': 1.5}, 'must lie in'),
    ],
  )
  def test_impossible_limits_are_rejected(self, options, says):
    with pytest.raises(ValueError, match=says):
      repair_pairs.limit(self.plus(), PROBLEM, **options)


def test_episodes_have_two_attempts():
  three = np.zeros((4, 3))
  with pytest.raises(ValueError, match='episodes of two attempts'):
    repair_pairs.star(three, three > 0, np.zeros(4))
