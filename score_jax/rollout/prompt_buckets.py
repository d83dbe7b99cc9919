"""A few fixed prompt lengths, so that few programs are compiled."""

from collections.abc import Sequence

import numpy as np


def choose_buckets(
  lengths: Sequence[int], count: int = 4, multiple: int = 4
) -> tuple[int, ...]:
  """Bucket sizes for prompts of these lengths.

  Args:
    lengths: tokens of every prompt of the data.
    count: most buckets; each is compiled apart.
    multiple: sizes are rounded up to a multiple of it.

  Returns:
    Increasing sizes, at evenly spaced quantiles of the lengths; the last one
    fits every prompt.
  """
  shares = np.linspace(0, 1, count + 1)[1:]
  sizes = np.quantile(np.asarray(lengths), shares, method='higher')
  rounded = -(-sizes.astype(int) // multiple) * multiple
  return tuple(int(size) for size in np.unique(rounded))
