"""Batch compaction makes the same episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import small_models

pytestmark = pytest.mark.slow

# Of 8 sequences, 3 are left after 2 tokens of attempt 1, 1 after 5; attempt 2
# loses them one by one, and in another order.
_LENGTHS = [
  (1, 9),
  (2, 1),
  (8, 2),
  (1, 3),
  (5, 4),
  (2, 5),
  (2, 6),
  (4, 7),
]


def _both(**options):
  return [
    small_models.run('gemma2', 2, compactions=compactions, **options)
    for compactions in (0, 2)
  ]


@pytest.mark.parametrize('ends', ['forced', 'stop tokens', 'stop texts'])
def test_the_same_episodes(ends):
  options = {}
  if ends == 'forced':
    options['forced_lengths'] = jnp.array(_LENGTHS, jnp.int32)
  if ends == 'stop texts':
    options['separators'] = small_models.with_stop_texts(
      small_models.separators(2)
    )
  whole, shrunk = _both(**options)
  for name in ('tokens', 'turn', 'length', 'finished'):
    np.testing.assert_array_equal(getattr(whole, name), getattr(shrunk, name))
  np.testing.assert_allclose(whole.logprobs, shrunk.logprobs, atol=1e-5)


def test_the_batch_does_shrink():
  def logits(compactions):
    text = str(
      jax.make_jaxpr(
        lambda keys: small_models.run(
          'gemma2', 2, compactions=compactions, sequence_keys=keys
        )
      )(small_models.sequence_keys())
    )
    return [f'f32[{rows},{small_models.VOCAB}]' in text for rows in (4, 2, 1)]

  assert logits(0) == [False, False, False]
  assert logits(2) == [True, True, False]
