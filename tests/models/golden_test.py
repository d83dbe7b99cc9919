"""The forward pass gives the logits of `transformers` for the same weights.

The files are made by tests/golden/make_gemma_golden.py and need no PyTorch.
parity_test.py compares with the library itself: bfloat16 and episodes too.
"""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.interop import checkpoint_formats, hugging_face_config
from score_jax.models import transformer
from tests.support import random_checkpoints

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'


@pytest.mark.parametrize(
  'name', ['gemma-1', 'gemma-1-mha', 'gemma-2', 'gemma-3']
)
def test_logits(name, tmp_path):
  """Layers are scanned, as in the update; transformer_test unrolls."""
  with np.load(GOLDEN / f'{name}.npz') as file:
    golden = dict(file)
  random_checkpoints.write(
    tmp_path,
    json.loads(golden['config'].item()),
    json.loads(golden['shapes'].item()),
  )
  config = dataclasses.replace(
    hugging_face_config.read(tmp_path, golden['vocab_size'].item()),
    round_embedding_scale=False,
  )
  params = checkpoint_formats.load(tmp_path, config)
  tokens = golden['tokens']
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)

  @jax.jit
  def logits(params):
    hidden, _ = transformer.forward(
      config, params, tokens, positions, unroll=False
    )
    return transformer.unembed(config, params['embedding'], hidden)

  np.testing.assert_allclose(
    logits(params), golden['logits'], rtol=0, atol=1e-4
  )
