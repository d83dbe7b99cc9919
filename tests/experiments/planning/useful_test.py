"""Useful FLOPs against a count of every product."""

import pytest

from experiments.planning import useful
from score_jax.models import gemma
from tests.support import small_models


def _slow(config, length, logits):
  """Two for every multiplication of a forward pass, term by term."""
  c, products = config, 0
  for kind in c.layer_kinds:
    for query in range(length):
      products += c.width * c.num_heads * c.head_dim  # q
      products += 2 * c.width * c.num_kv_heads * c.head_dim  # k, v
      products += c.num_heads * c.head_dim * c.width  # o
      products += 3 * c.width * c.mlp_width
      for key in range(length):
        seen = key <= query
        if kind == 'local':
          seen = seen and key > query - c.window
        products += seen * 2 * c.num_heads * c.head_dim  # scores, mixture
  return 2 * (products + logits * c.width * c.vocab_size)


@pytest.mark.parametrize('name', small_models.CONFIGS)
@pytest.mark.parametrize('length', [3, 17])
def test_forward(name, length):
  config = small_models.CONFIGS[name]
  found = useful.forward_flops(config, length, 2)
  assert found == _slow(config, length, 2)


def test_update_counts_four_forward_passes_or_three():
  config = small_models.CONFIGS['gemma2']
  forward = useful.forward_flops(config, 10, 5)
  update = useful.update_flops(config, 6, 10, 5, adapters=False)
  # Policy forward, backward (two), reference forward.
  assert update == 6 * 4 * forward
  adapters = useful.update_flops(config, 6, 10, 5, adapters=True)
  assert adapters == 6 * 3 * forward


def test_six_n_d():
  """Gemma 2 2B: 2.6e9 parameters, the embedding counted once as the head."""
  config = gemma.CONFIGS['gemma-2-2b']
  found = useful.forward_flops(config, 1000, 1000)
  assert found == pytest.approx(2 * 2.61e9 * 1000, rel=0.05)
