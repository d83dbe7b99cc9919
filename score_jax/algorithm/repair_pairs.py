"""Which attempts the supervised baselines learn from (section 4 of the paper).

Episodes of two attempts at the problems were sampled and judged; a pair is a
first attempt and the attempt that shall follow it. D_STaR takes pairs as they
happened, D_SFT puts them together from different episodes; D+ has in addition
pairs of two right attempts. Everything is on the host: pairs point at
attempts, nothing is copied.
"""

from collections.abc import Callable
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Pairs:
  """P pairs, in the order of their first attempts' rows.

  Attributes:
    first_row: i32 [P], the row whose first attempt begins the pair.
    second_row: i32 [P], the row that the second attempt is taken from.
    second_turn: i32 [P], its turn there, from 1.
    first_right: bool [P]; False: the pair repairs something.
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
    score: f32 [B, 2], what the reward function returned.
    graded: bool [B, 2]; an ungraded attempt is in no pair.
    problem: i32 [B]; not read, an episode is of one problem.
    seed: not read, nothing is drawn.
    both_right: D+_STaR: episodes with two right attempts, too.
    threshold: an attempt is right from this score on.
  """
  del problem, seed
  right, wrong = _judged(score, graded, threshold)
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

  The right one is drawn evenly from all right attempts at the problem, of
  either turn and any episode. Wrong attempts are first ones only: a second
  attempt was written with another before it, and no policy will have it before
  its own second attempt. A problem without right attempts has no pairs.

  Args:
    score, graded, threshold: as in `star`.
    problem: i32 [B], which problem a row is of, in any order.
    seed: of the draw, which depends on (seed, problem) and the problem's own
      rows alone.
    both_right: D+_SFT: right first attempts get a partner from the same draw,
      too. The paper does not say how it draws them; ours may be the attempt
      itself, which says that a right answer may stay.
  """
  right, wrong = _judged(score, graded, threshold)
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
  """Fewer pairs, so that nothing easy outweighs the rest. Drawn evenly.

  Args:
    pairs: of either construction.
    problem: i32 [B], which problem a row is of.
    seed: of the draw.
    most_per_problem: most pairs of a problem, of repairs and of pairs of two
      right attempts each; 10 solutions in ReST^EM, whose protocol the paper
      follows. None: all.
    right_share: largest share of pairs of two right attempts among all that
      are left, in [0, 1]; the paper does not state one. 1: as they come.

  Raises:
    ValueError: a limit that cannot be.
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


def _judged(score, graded, threshold) -> tuple[np.ndarray, np.ndarray]:
  """Which attempts are right, and which are wrong, bool [B, 2] each."""
  score, graded = np.asarray(score), np.asarray(graded, bool)
  if score.shape != graded.shape or score.ndim != 2 or score.shape[1] != 2:
    raise ValueError(
      f'score {list(score.shape)} and graded {list(graded.shape)}: pairs are '
      'made of episodes of two attempts, [B, 2] each'
    )
  reached = np.where(graded, score, 0) >= threshold
  return graded & reached, graded & ~reached


def _groups(numbers):
  """Each number that occurs, and the positions where it does, ascending."""
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
