"""Gradients part by part, so that activations of one part exist at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def accumulate(function: Callable[[Any], tuple[Any, Any]], parts: Any) -> Any:
  """Sums and maxima of a function's values over micro-batches, one at a time.

  Args:
    function: micro-batch -> (values to add up, non-negative values of which the
      largest counts), two trees of arrays.
    parts: arrays [parts, B / parts, ...], from `batch_parts`.

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
