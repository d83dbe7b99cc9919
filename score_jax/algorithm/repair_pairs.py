"""Which attempts the supervised baselines learn from (section 4 of the paper).

From sampled and graded episodes of two attempts, pairs of a first attempt and
the attempt to learn after it. D_STaR takes both from one episode, D_SFT
combines different episodes; D+ adds pairs of two right attempts. Host only:
pairs are indices of attempts, no tokens are copied.
"""

from collections.abc import Callable
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Pairs:
  """P pairs, in the order of `first_row`.

  Attributes:
    first_row: i32 [P], index of the episode whose first attempt is the pair's.
    second_row: i32 [P], index of the episode that has the second attempt.
    second_turn: i32 [P], turn of the second attempt there, from 1.
    first_right: bool [P], the first attempt is right; False: a repair.
  """

  first_row: np.ndarray
  second_row: np.ndarray
  second_turn: np.ndarray
  first_right: np.ndarray

  def __len__(self) -> int:
    return len(self.first_row)

  def take(self, index: np.ndarray) -> 'Pairs':
    """The pairs at these positions, or where this mask is true."""
    fields = dataclasses.fields(self)
    return Pairs(*(getattr(self, field.name)[index] for field in fields))


Construction = Callable[..., Pairs]


def star(
  score: np.ndarray,
  graded: np.ndarray,
  problem: np.ndarray,
  *,
  seed: int = 0,
  both_right: bool = False,
  threshold: float = 0.5,
) -> Pairs:
  """D_STaR: wrong, then right, within one episode of the current policy.

  Args:
    score: f32 [B, 2], of the task's grader.
    graded: bool [B, 2]; an ungraded attempt is in no pair.
    problem: i32 [B]; unused, both attempts are of one episode.
    seed: unused, nothing is drawn.
    both_right: D+_STaR: includes episodes with two right attempts.
    threshold: least score of a right attempt.
  """
  del problem, seed
  right, wrong = _right_and_wrong(score, graded, threshold)
  begins = wrong[:, 0] | (both_right & right[:, 0])
  rows = np.flatnonzero(begins & right[:, 1])
  return Pairs(
    first_row=rows.astype(np.int32),
    second_row=rows.astype(np.int32),
    second_turn=np.full(len(rows), 2, np.int32),
    first_right=right[rows, 0],
  )


def pair_sft(
  score: np.ndarray,
  graded: np.ndarray,
  problem: np.ndarray,
  *,
  seed: int = 0,
  both_right: bool = False,
  threshold: float = 0.5,
) -> Pairs:
  """D_SFT: a wrong first attempt and a random right one at the same problem.

  The right one is drawn uniformly from all right attempts at the problem, of
  either turn and any episode. Wrong attempts are first ones only: a second
  attempt follows another attempt, a context in which no policy will see it
  before its own second attempt. A problem without right attempts has no pairs.

  Args:
    score, graded, threshold: as in `star`.
    problem: i32 [B], the episodes' problems, in any order.
    seed: of the draw, which depends on (seed, problem) and the problem's own
      episodes alone.
    both_right: D+_SFT: right first attempts get a partner from the same draw.
      The paper does not say how it draws them; ours may be the attempt itself,
      an example of keeping a right answer.
  """
  right, wrong = _right_and_wrong(score, graded, threshold)
  begins = wrong[:, 0] | (both_right & right[:, 0])
  first, second, turn = [], [], []
  for number, own in _groups(problem):
    row, k = np.nonzero(right[own])
    starts = own[begins[own]]
    if not (len(row) and len(starts)):
      continue
    drawn = _rng(seed, number).integers(len(row), size=len(starts))
    first += starts.tolist()
    second += own[row[drawn]].tolist()
    turn += (k[drawn] + 1).tolist()
  order = np.argsort(np.array(first, np.int32))
  first_row = np.array(first, np.int32)[order]
  return Pairs(
    first_row=first_row,
    second_row=np.array(second, np.int32)[order],
    second_turn=np.array(turn, np.int32)[order],
    first_right=right[first_row, 0],
  )


def limit(
  pairs: Pairs,
  problem: np.ndarray,
  *,
  seed: int = 0,
  most_per_problem: int | None = 10,
  right_share: float = 1.0,
) -> Pairs:
  """A uniform draw of pairs, so that easy problems do not outweigh the rest.

  Args:
    pairs: of either construction.
    problem: i32 [B], the episodes' problems.
    seed: of the draw.
    most_per_problem: most pairs of a problem, of repairs and of pairs of two
      right attempts each; 10 solutions in ReST^EM, whose protocol the paper
      follows. None: all.
    right_share: largest share of pairs of two right attempts in the result, in
      [0, 1]; the paper does not state one. 1: no limit.

  Raises:
    ValueError: an argument is out of range.
  """
  if most_per_problem is not None and most_per_problem < 1:
    raise ValueError(f'most_per_problem is {most_per_problem}: at least 1')
  if not 0 <= right_share <= 1:
    raise ValueError(f'right_share is {right_share}: must lie in [0, 1]')
  if most_per_problem is not None:
    kept = []
    for number, own in _groups(np.asarray(problem)[pairs.first_row]):
      for is_right in (False, True):
        index = own[pairs.first_right[own] == is_right]
        rng = _rng(seed, number, 1 + is_right)
        kept += _draw(index, most_per_problem, rng).tolist()
    pairs = pairs.take(np.sort(np.array(kept, int)))
  if right_share < 1:
    right = np.flatnonzero(pairs.first_right)
    repairs = np.flatnonzero(~pairs.first_right)
    # 5 repairs at a share of 1/6 leave room for 1, not for 0.9999.
    most = int(len(repairs) * right_share / (1 - right_share) + 1e-6)
    kept = np.concatenate([repairs, _draw(right, most, _rng(seed, 0, 3))])
    pairs = pairs.take(np.sort(kept))
  return pairs


def _right_and_wrong(score, graded, threshold) -> tuple[np.ndarray, np.ndarray]:
  """Graded attempts that are right, and that are wrong, bool [B, 2] each."""
  score, graded = np.asarray(score), np.asarray(graded, bool)
  if score.shape != graded.shape or score.ndim != 2 or score.shape[1] != 2:
    raise ValueError(
      f'score {list(score.shape)} and graded {list(graded.shape)}: pairs are '
      'made from episodes of two attempts, [B, 2] each'
    )
  reached = np.where(graded, score, 0) >= threshold
  return graded & reached, graded & ~reached


def _groups(numbers):
  """(number, its positions), both ascending, for each distinct number."""
  numbers = np.asarray(numbers)
  order = np.argsort(numbers, kind='stable')
  found, starts = np.unique(numbers[order], return_index=True)
  yield from zip(found, np.split(order, starts[1:]))


def _draw(index: np.ndarray, most: int, rng) -> np.ndarray:
  if len(index) <= most:
    return index
  return rng.choice(index, most, replace=False)


def _rng(*key) -> np.random.Generator:
  return np.random.default_rng([int(part) for part in key])
