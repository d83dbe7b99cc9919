"""Training sequences of the supervised baselines, from sampled episodes.

A sequence is one episode up to where its second attempt begins, instruction
included, and then an attempt's own ids: tokens are copied, never decoded.
"""

from typing import Literal

import jax
import numpy as np

from score_jax import arrays
from score_jax.algorithm import repair_pairs

Learn = Literal['second', 'right', 'both']


def splice(
  episodes: arrays.Trajectory, pairs: repair_pairs.Pairs, length: int
) -> arrays.Trajectory:
  """For each pair its first attempt's episode, then its second attempt.

  Args:
    episodes: of two attempts [B, T], on the host.
    pairs: P of them.
    length: of the sequences; they are right-padded to it.

  Returns:
    A trajectory [P, length] whose attempts all count as not sampled.

  Raises:
    ValueError: a sequence is longer than `length`.
  """
  count = len(pairs)
  tokens = np.zeros((count, length), np.int32)
  turn = np.zeros((count, length), np.int32)
  lengths = np.zeros(count, np.int32)
  finished = np.ones((count, 2), bool)
  for i in range(count):
    first, second = pairs.first_row[i], pairs.second_row[i]
    k = pairs.second_turn[i]
    # With the separator that the engine chose for this first attempt, which
    # differs between finished and cut-off ones.
    begin = int(np.argmax(episodes.turn[first] == 2))
    attempt = episodes.tokens[second][episodes.turn[second] == k]
    end = begin + len(attempt)
    if end > length:
      raise ValueError(f'pair {i} has {end} tokens, more than {length}')
    tokens[i, :begin] = episodes.tokens[first, :begin]
    turn[i, :begin] = episodes.turn[first, :begin]
    tokens[i, begin:end], turn[i, begin:end] = attempt, 2
    lengths[i] = end
    finished[i] = episodes.finished[first, 0], episodes.finished[second, k - 1]
  return arrays.Trajectory(
    tokens=tokens,
    turn=turn,
    sampled=np.zeros((count, 2), bool),
    logprobs=np.zeros((count, length), np.float32),
    length=lengths,
    finished=finished,
    problem_index=np.asarray(episodes.problem_index)[pairs.first_row],
  )


def attempt_loss_mask(pairs: repair_pairs.Pairs, learn: Learn) -> np.ndarray:
  """Loss mask of the pairs' attempts, bool [P, 2].

  The paper does not state it. 'second': the second attempt alone, since a wrong
  first attempt is not to be imitated. 'right': also first attempts that are
  right, which D+ has. 'both': every attempt.
  """
  first = {
    'second': np.zeros(len(pairs), bool),
    'right': pairs.first_right,
    'both': np.ones(len(pairs), bool),
  }
  if learn not in first:
    raise ValueError(f'learn is {learn!r}: one of {", ".join(first)}')
  return np.stack([first[learn], np.ones(len(pairs), bool)], axis=1)


def take(trajectory: arrays.Trajectory, index: np.ndarray) -> arrays.Trajectory:
  """The sequences at `index`, in that order."""
  return jax.tree.map(lambda values: values[index], trajectory)
