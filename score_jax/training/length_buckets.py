"""Short rows cost less: sorted by length, and micro-batches cut to theirs.

Rows have room for attempts that are as long as allowed, and most end early. A
program has fixed shapes, so there is one for each of a few lengths, and every
micro-batch takes the shortest that its rows fit.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from score_jax import arrays

# Lengths are multiples of it where rows are long: attention kernels want that.
_TILE = 128
# Where attempts may be so long that many end early, each further length is
# worth its compilation.
_LONG_ATTEMPTS, _COUNT_OF_LONG = 512, 2


def default_count(attempt_tokens: int) -> int:
  """Number of lengths for sequences of so many attempt tokens at most."""
  return _COUNT_OF_LONG if attempt_tokens >= _LONG_ATTEMPTS else 1


def lengths(longest: int, count: int) -> tuple[int, ...]:
  """Lengths that rows of `longest` tokens are cut to, ascending.

  They are equal parts, rounded up to tiles of 128 tokens unless that would make
  two of them one; the last is `longest` itself.
  """
  tile = _TILE if longest >= count * _TILE else 1
  parts = (-(-longest * i // count) for i in range(1, count + 1))
  return tuple(sorted({min(-(-p // tile) * tile, longest) for p in parts}))


def deal_by_length(tree: Any, length: jax.Array, parts: int) -> Any:
  """Reorders sequences: `rl_update.split_batch` then parts them by length.

  Args:
    tree: of arrays [B, ...].
    length: i32 [B], tokens of each row.
    parts: number of micro-batches, which divides B.
  """
  order = jnp.argsort(length).reshape(parts, -1).T.reshape(-1)
  return jax.tree.map(lambda x: x[order], tree)


def cut(trajectory: arrays.Trajectory, length: int) -> arrays.Trajectory:
  """The first tokens of each row: all, if no row is longer."""
  return trajectory.replace(
    tokens=trajectory.tokens[:, :length],
    turn=trajectory.turn[:, :length],
    logprobs=trajectory.logprobs[:, :length],
  )


def at_own_length(
  function: Callable[[arrays.Trajectory], Any],
  trajectory: arrays.Trajectory,
  count: int,
) -> Any:
  """`function` of the trajectory, cut to the least length that all rows fit.

  Args:
    function: gives arrays whose shapes do not depend on the rows' length.
    trajectory: rows [B, T].
    count: of the lengths, each a program of its own; see `lengths`.
  """
  sizes = lengths(trajectory.tokens.shape[1], count)
  return jax.lax.switch(
    jnp.searchsorted(jnp.array(sizes), trajectory.length.max()),
    [lambda rows, size=size: function(cut(rows, size)) for size in sizes],
    trajectory,
  )
