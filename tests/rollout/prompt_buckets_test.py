"""Prompt buckets: a table by hand, and what always holds."""

import numpy as np
import pytest

from score_jax.rollout import prompt_buckets


@pytest.mark.parametrize(
  ('lengths', 'count', 'multiple', 'sizes'),
  [
    # One length: one program.
    ([9, 9, 9], 4, 4, (12,)),
    # Quarters of 1..100 end at 25.75 -> 26 and so on, rounded up to 4.
    (range(1, 101), 4, 4, (28, 52, 76, 100)),
    (range(1, 101), 2, 10, (60, 100)),
    # What rounds to the same size is one bucket.
    ([5, 6, 7, 8], 4, 8, (8,)),
    # The longest fits even if it is alone.
    ([4] * 99 + [33], 4, 4, (4, 36)),
    ([1], 4, 1, (1,)),
  ],
)
def test_sizes(lengths, count, multiple, sizes):
  assert prompt_buckets.choose_buckets(list(lengths), count, multiple) == sizes


def test_every_prompt_has_a_bucket_and_each_bucket_prompts():
  rng = np.random.default_rng(0)
  for _ in range(20):
    lengths = rng.integers(1, 300, rng.integers(1, 50))
    sizes = prompt_buckets.choose_buckets(lengths)
    assert len(sizes) <= 4
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] >= lengths.max()
    assert sizes[-1] < lengths.max() + 4
    for low, high in zip((0, *sizes), sizes):
      assert any(low < length <= high for length in lengths)


def test_every_bucket_has_its_share_of_batches():
  rng = np.random.default_rng(0)
  lengths = rng.geometric(1 / 60, 8000)
  sizes = prompt_buckets.choose_buckets(lengths, 4, 1, batch_size=64)
  longest = rng.choice(lengths, (4000, 64)).max(axis=1)
  fitting = np.searchsorted(sizes, longest)
  shares = np.bincount(fitting, minlength=4) / len(longest)
  np.testing.assert_allclose(shares, 0.25, atol=0.03)
  # Quantiles of single prompts would never fit a batch.
  single = prompt_buckets.choose_buckets(lengths, 4, 1)
  assert (longest > single[-2]).all()
