"""Our models say what `transformers` said of the same weights.

The files are made by tests/golden/make_gemma_golden.py. parity_test.py makes
the same comparison, and more, with the library itself.
"""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax import arrays
from score_jax.interop import checkpoint_formats, hugging_face_config
from score_jax.models import transformer
from score_jax.rollout import engine, turn_separator
from tests.support import random_checkpoints

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'


@pytest.fixture(
  scope='module', params=['gemma-1', 'gemma-1-mha', 'gemma-2', 'gemma-3']
)
def golden(request, tmp_path_factory):
  """A golden file, its model and its parameters."""
  with np.load(GOLDEN / f'{request.param}.npz') as file:
    golden = dict(file)
  directory = random_checkpoints.write(
    tmp_path_factory.mktemp(request.param),
    json.loads(golden['config'].item()),
    json.loads(golden['shapes'].item()),
  )
  config = dataclasses.replace(
    hugging_face_config.read(directory, golden['vocab_size'].item()),
    round_embedding_scale=False,
  )
  return golden, config, checkpoint_formats.load(directory, config)


@pytest.mark.parametrize('unroll', [True, False])
def test_logits(golden, unroll):
  golden, config, params = golden
  tokens = golden['tokens']
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)

  @jax.jit
  def logits(params):
    hidden, _ = transformer.forward(
      config, params, tokens, positions, unroll=unroll
    )
    return transformer.unembed(config, params['embedding'], hidden)

  np.testing.assert_allclose(
    logits(params), golden['logits'], rtol=0, atol=1e-4
  )


def test_greedy_continuation(golden):
  golden, config, params = golden
  start = golden['prompt_length'].item()
  rows, count = golden['continuation'].shape
  none = jnp.zeros((0, 1), jnp.int32)
  trajectory = engine.sample_episodes(
    params,
    arrays.Prompts(
      jnp.asarray(golden['tokens'][:, :start]), jnp.full(rows, start, jnp.int32)
    ),
    jax.random.split(jax.random.key(0), rows),
    turn_separator.TurnSeparators(
      none, none[:, 0], none, none[:, 0], stop_ids=jnp.array([-1], jnp.int32)
    ),
    config=config,
    max_new_tokens=(count,),
    samples_per_problem=1,
    greedy=True,
  )
  np.testing.assert_array_equal(
    trajectory.tokens[:, start : start + count], golden['continuation']
  )
