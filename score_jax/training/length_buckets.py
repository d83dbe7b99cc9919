"""Short sequences cost less: micro-batches of like length, cut to it.

Sequences have room for attempts of the largest allowed length, and most end
early. A program has fixed shapes, so one is compiled for each of a few lengths,
and every micro-batch takes the shortest that all its sequences fit.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp

from score_jax import arrays

# A batch and its loss mask, bool [B, K].
MicroBatch = tuple[arrays.TrainBatch, jax.Array]

# Long sequences are cut to multiples of it, the tile of attention kernels.
_TILE = 128
# Where attempts may be so long that many end early, each further length is
# worth its compilation.
_LONG_ATTEMPTS, _COUNT_OF_LONG = 512, 2


def default_count(attempt_tokens: int) -> int:
  """Number of lengths for sequences of so many attempt tokens at most."""
  return _COUNT_OF_LONG if attempt_tokens >= _LONG_ATTEMPTS else 1


def lengths(longest: int, count: int) -> tuple[int, ...]:
  """Lengths that sequences of `longest` tokens are cut to, ascending.

  Multiples of `longest / count`, rounded up to tiles of 128 tokens where
  `longest` is at least `count` tiles; the last is `longest` itself.
  """
  tile = _TILE if longest >= count * _TILE else 1
  parts = (-(-longest * i // count) for i in range(1, count + 1))
  return tuple(sorted({min(-(-p // tile) * tile, longest) for p in parts}))


def deal_by_length(tree: Any, length: jax.Array, parts: int) -> Any:
  """Reorders sequences so that `split_batch` makes parts of like length.

  Args:
    tree: of arrays [B, ...].
    length: i32 [B], tokens of each sequence.
    parts: number of micro-batches, a divisor of B.
  """
  # `batch_parts.split_batch` deals them out: part p gets sequences
  # p, p + parts, ... So column by column of the sorted [parts, B / parts].
  order = jnp.argsort(length).reshape(parts, -1).T.reshape(-1)
  return jax.tree.map(lambda x: x[order], tree)


def cut(trajectory: arrays.Trajectory, length: int) -> arrays.Trajectory:
  """The first `length` tokens of each sequence."""
  return trajectory.replace(
    tokens=trajectory.tokens[:, :length],
    turn=trajectory.turn[:, :length],
    logprobs=trajectory.logprobs[:, :length],
  )


def at_own_length(
  function: Callable[[MicroBatch], Any], count: int
) -> Callable[[MicroBatch], Any]:
  """`function` on micro-batches cut to the shortest length that all fit.

  Args:
    function: of a batch and its loss mask; returns arrays whose shapes do not
      depend on T.
    count: number of `lengths`, each compiled apart.
  """

  def at(part: MicroBatch, size: int) -> Any:
    batch, loss_mask = part
    cut_off = cut(batch.trajectory, size)
    return function((batch.replace(trajectory=cut_off), loss_mask))

  def at_shortest(part: MicroBatch) -> Any:
    trajectory = part[0].trajectory
    sizes = lengths(trajectory.tokens.shape[1], count)
    return jax.lax.switch(
      jnp.searchsorted(jnp.array(sizes), trajectory.length.max()),
      [functools.partial(at, size=size) for size in sizes],
      part,
    )

  return at_shortest
