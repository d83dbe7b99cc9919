"""Self-consistency: the answer that most attempts give.

Votes are over answer keys (`tasks.answer_keys`), which are equal for different
spellings of an answer, and never over verdicts, which need the reference.
"""

import collections
from collections.abc import Callable, Hashable, Sequence

import numpy as np

Keys = Sequence[Hashable | None]


def majority(keys: Keys) -> int | None:
  """Index of the first attempt with the most frequent answer.

  Args:
    keys: the attempts' answers; None abstains.

  Returns:
    Among equally frequent answers, the first; None where all abstain.
  """
  votes = collections.Counter(key for key in keys if key is not None)
  if not votes:
    return None
  # Counter keeps the order of first occurrence, and max returns the first.
  return list(keys).index(max(votes, key=votes.get))


def vote_accuracy(
  keys: Sequence[Sequence[Keys]],
  correct: np.ndarray,
  size: int,
  *,
  draws: int = 50,
  seed: int = 0,
) -> np.ndarray:
  """Share of votes of `size` among G episodes whose majority is right.

  Mean over random draws of `size` episodes without replacement, in random order
  (which decides ties); all G episodes are drawn once, in their order.

  Args:
    keys: answers of N problems, G episodes and V voting attempts of each.
    correct: bool [N, G, V].
    size: episodes in a vote.
    draws: number of votes.
    seed: of the draws.

  Returns:
    float64 [N]; a vote in which all abstain is wrong.

  Raises:
    ValueError: there are fewer than `size` episodes.
  """
  samples = correct.shape[1]
  if not 1 <= size <= samples:
    raise ValueError(
      f'a vote of {size} episodes needs as many samples, not {samples}'
    )
  rng = np.random.default_rng(seed)
  orders = [np.arange(samples)]
  if size < samples:
    orders = [rng.permutation(samples)[:size] for _ in range(draws)]
  return np.array(
    [
      np.mean([_is_right(answers, graded, order) for order in orders])
      for answers, graded in zip(keys, correct, strict=True)
    ]
  )


def _is_right(answers, correct, order) -> bool:
  winner = majority([key for i in order for key in answers[i]])
  return winner is not None and bool(correct[order].reshape(-1)[winner])


def merge_equivalent(
  keys: Sequence[Sequence[Keys]],
  same: Callable[[list[str], list[str]], Sequence[bool]],
  *,
  most: int = 8,
) -> list[list[list[Hashable | None]]]:
  """Replaces the keys of algebraically equal answers by one key.

  Args:
    keys: as in `vote_accuracy`; only text keys are compared.
    same: whether the i-th of the first list equals the i-th of the second.
    most: answers of a problem that are compared, the most frequent first: a
      vote is decided among these.

  Returns:
    The keys, those of equal answers replaced by the most frequent one's.
  """
  pairs = []
  for number, episodes in enumerate(keys):
    counts = collections.Counter(
      key for votes in episodes for key in votes if isinstance(key, str)
    )
    frequent = [key for key, _ in counts.most_common(most)]
    pairs += [
      (number, one, other)
      for i, one in enumerate(frequent)
      for other in frequent[i + 1 :]
    ]
  equal = same([one for _, one, _ in pairs], [other for *_, other in pairs])
  leaders: list[dict[str, str]] = [{} for _ in keys]
  for (number, one, other), is_same in zip(pairs, equal, strict=True):
    if is_same:
      leader = leaders[number].get(one, one)
      leaders[number].setdefault(other, leader)
  return [
    [[leader.get(key, key) for key in votes] for votes in episodes]
    for leader, episodes in zip(leaders, keys)
  ]
