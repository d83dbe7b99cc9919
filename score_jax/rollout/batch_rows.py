"""Rows of a loop's carry: some of them picked, put back, or none touched."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def pick(tree: Any, index: jax.Array) -> Any:
  """The rows at `index` of every array of a tree; scalars as they are."""
  return jax.tree.map(lambda x: x[index] if x.ndim else x, tree)


def put(tree: Any, index: jax.Array, part: Any) -> Any:
  """The tree with `part` in its rows at `index`.

  Args:
    tree: arrays with a batch axis, and scalars.
    index: i32 [rows], no two equal; what is out of bounds is dropped.
    part: of the tree's structure; scalars are its.
  """

  def put_leaf(x, new):
    return x.at[index].set(new, unique_indices=True) if x.ndim else new

  return jax.tree.map(put_leaf, tree, part)


def if_then(
  condition: jax.Array, function: Callable[[Any], Any], carry: Any
) -> Any:
  """`function(carry)` if the condition holds, else the carry.

  A loop of at most one pass, since it updates its carry in place; `lax.cond`
  would copy the whole cache in both of its branches.
  """
  carry, _ = jax.lax.while_loop(
    lambda both: both[1],
    lambda both: (function(both[0]), jnp.zeros((), bool)),
    (carry, condition),
  )
  return carry
