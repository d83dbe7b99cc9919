"""A few fixed prompt lengths, so that few programs are compiled."""

from collections.abc import Sequence

import numpy as np


def choose_buckets(
  lengths: Sequence[int], count: int = 4, multiple: int = 4
) -> tuple[int, ...]:
  """Bucket sizes for prompts of these lengths.

  Args:
    lengths: tokens of every prompt that may come.
    count: most buckets, each of which costs its compilations.
    multiple: sizes are rounded up to it.

  Returns:
    Increasing sizes at equal shares of the prompts; the last fits them all.
  """
  shares = np.linspace(0, 1, count + 1)[1:]
  sizes = np.quantile(np.asarray(lengths), shares, method='higher')
  rounded = -(-sizes.astype(int) // multiple) * multiple
  return tuple(int(size) for size in np.unique(rounded))
