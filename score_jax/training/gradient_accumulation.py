"""Batches in parts, so that activations of one part exist at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


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


def accumulate(function: Callable[[Any], tuple[Any, Any]], parts: Any) -> Any:
  """Sums and maxima of a function's values over micro-batches, one at a time.

  Args:
    function: micro-batch -> (values to add up, non-negative values of which the
      largest counts), two trees of arrays.
    parts: arrays [parts, B / parts, ...], from `split_batch`.

  Returns:
    The two trees over all micro-batches.
  """
  shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts))
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

  def add(total, part):
    # A scan carries one sum; stacking the parts' gradients would cost one copy
    # of the parameters for each of them.
    sums, maxima = function(part)
    added = jax.tree.map(jnp.add, total[0], sums)
    return (added, jax.tree.map(jnp.maximum, total[1], maxima)), None

  total, _ = jax.lax.scan(add, zeros, parts)
  return total
