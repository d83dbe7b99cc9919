"""A batch in parts: micro-batches, and mini-batches of whole problems.

Micro-batches make one gradient together; mini-batches make an update each.
"""

from typing import Any

import jax


def split_batch(tree: Any, parts: int) -> Any:
  """[B, ...] leaves as [parts, B / parts, ...].

  Sequence b goes to part b mod parts. Neighbours are on one device, so that
  every part has sequences of every device and none moves.

  Raises:
    ValueError: B is no multiple of `parts`.
  """

  def deal(x):
    if x.shape[0] % parts:
      raise ValueError(
        f'{x.shape[0]} sequences do not divide into {parts} micro-batches'
      )
    dealt = x.reshape(x.shape[0] // parts, parts, *x.shape[1:])
    return dealt.swapaxes(0, 1)

  return jax.tree.map(deal, tree)


def split_problems(tree: Any, parts: int, samples_per_problem: int) -> Any:
  """[N * G, ...] leaves as [parts, N / parts * G, ...].

  Problem n goes to part n mod parts, with all of its G adjacent samples.

  Raises:
    ValueError: N is no multiple of `parts`.
  """

  def deal(x):
    shape = x.shape[1:]
    problems = x.shape[0] // samples_per_problem
    if problems % parts:
      raise ValueError(
        f'{problems} problems do not divide into {parts} mini-batches'
      )
    dealt = x.reshape(problems // parts, parts, samples_per_problem, *shape)
    return dealt.swapaxes(0, 1).reshape(parts, -1, *shape)

  return jax.tree.map(deal, tree)
