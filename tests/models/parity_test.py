"""Compares Hugging Face's Gemma 1, 2 and 3 with ours, from the same files.

Needs the `parity` extra. Without it, golden_test.py compares with logits that
these models had when the golden files were made.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax import arrays
from score_jax.interop import hugging_face_config
from score_jax.rollout import engine, turn_separator
from tests.support import hugging_face, parity_table

pytestmark = pytest.mark.filterwarnings(
  'ignore::DeprecationWarning', 'ignore::FutureWarning'
)

NAMES = tuple(hugging_face.CONFIGS)
LENGTH = parity_table.LENGTH


@pytest.fixture(scope='module')
def pairs(tmp_path_factory):
  """Makes (Hugging Face model, our config, our parameters) once a name."""
  made = {}

  def pair(name):
    if name not in made:
      directory = tmp_path_factory.mktemp(name)
      theirs = hugging_face.model(name)
      config, params = parity_table.load(theirs, directory)
      made[name] = theirs, config, params
    return made[name]

  return pair


@pytest.mark.parametrize('name', NAMES)
def test_logits_in_f32(pairs, name):
  theirs, config, params = pairs(name)
  found = parity_table.logits(config, params, parity_table.tokens())
  expected = hugging_face.logits(theirs, parity_table.tokens())
  assert found.shape == (3, LENGTH, hugging_face.VOCAB)
  assert expected.std() > 1  # else the comparison would mean little
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('name', ['gemma-1', 'gemma-2', 'gemma-3'])
def test_silent_files_mean_what_transformers_assumes(name, tmp_path):
  published = type(hugging_face.CONFIGS[name])()
  published.save_pretrained(tmp_path)
  full = hugging_face_config.read(tmp_path)
  (tmp_path / 'config.json').write_text(
    json.dumps({'model_type': published.model_type})
  )
  assert hugging_face_config.read(tmp_path) == full


def test_rounded_embedding_scale(pairs):
  # sqrt(48) = 6.9282 is 6.9375 in bfloat16; transformers rounds it with the
  # weights' dtype, so its f32 model is given the rounded number.
  theirs, config, params = pairs('gemma-3')
  rounded = dataclasses.replace(config, round_embedding_scale=True)
  scale = theirs.model.embed_tokens.embed_scale
  before = scale.item()
  scale.fill_(6.9375)
  try:
    expected = hugging_face.logits(theirs, parity_table.tokens())
  finally:
    scale.fill_(before)
  found = parity_table.logits(rounded, params, parity_table.tokens())
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
  exact = parity_table.logits(config, params, parity_table.tokens())
  assert np.abs(found - exact).max() > 1e-3


# Largest differences seen on two processors, with a margin of one half:
# measured 1.4, 0.7, 0.35, 0.83. An f32 logit spreads over 2.3 to 2.8.
BF16_BOUNDS = {
  'gemma-1': 2.0,
  'gemma-1-mha': 1.0,
  'gemma-2': 0.6,
  'gemma-3': 1.3,
}


@pytest.mark.parametrize('name', NAMES)
def test_logits_in_bf16(pairs, name):
  theirs, config, params = pairs(name)
  exact = hugging_face.logits(theirs, parity_table.tokens())
  rounded = hugging_face.model(name, 'bfloat16')
  expected = hugging_face.logits(rounded, parity_table.tokens())
  found = parity_table.logits(
    config, params, parity_table.tokens(), jnp.bfloat16
  )
  assert np.abs(found - expected).max() < BF16_BOUNDS[name]
  # Norms, RoPE and softmax in f32: not further from the exact logits than
  # transformers is.
  assert _rms(found - exact) < 1.1 * _rms(expected - exact)


def _rms(x):
  return np.sqrt(np.mean(np.square(x)))


PROMPT_LENGTHS = (30, 17, 3)  # longer than the window of 8, and shorter
MAX_NEW_TOKENS = (12, 8)
AFTER_STOP, AFTER_CUT = (7, 8, 9, 10, 11), (40, 7, 8, 9, 10, 11)


def _separators(stop_ids):
  return turn_separator.TurnSeparators(
    after_stop=jnp.array([[*AFTER_STOP, 0]], jnp.int32),
    after_stop_length=jnp.array([len(AFTER_STOP)], jnp.int32),
    after_cut=jnp.array([AFTER_CUT], jnp.int32),
    after_cut_length=jnp.array([len(AFTER_CUT)], jnp.int32),
    stop_ids=jnp.array(stop_ids, jnp.int32),
  )


@pytest.mark.parametrize('name', ['gemma-1', 'gemma-2', 'gemma-3'])
def test_greedy_episode(pairs, name):
  """Two attempts through the engine are those of `generate`, id for id.

  The ring of a local layer has 8 + 6 - 1 = 13 slots and sequences have up to 56
  tokens, so every ring wraps: in the prompt, in an attempt, in the separator.
  """
  theirs, config, params = pairs(name)
  tokens = parity_table.tokens(len(PROMPT_LENGTHS), max(PROMPT_LENGTHS))
  # The fifth token of the first prompt's attempt is made a stop token, so that
  # at least this attempt ends early.
  free = hugging_face.greedy(theirs, tokens[0], 5)
  stop_ids = (40, free[4])
  trajectory = jax.device_get(
    engine.sample_episodes(
      params,
      arrays.Prompts(jnp.asarray(tokens), jnp.array(PROMPT_LENGTHS, jnp.int32)),
      jax.random.split(jax.random.key(0), 2 * len(PROMPT_LENGTHS)),
      _separators(stop_ids),
      config=config,
      max_new_tokens=MAX_NEW_TOKENS,
      samples_per_problem=2,
      greedy=True,
    )
  )
  for index, prompt in enumerate(PROMPT_LENGTHS):
    expected, ends = list(tokens[index][:prompt]), []
    for turn, limit in enumerate(MAX_NEW_TOKENS):
      expected += hugging_face.greedy(theirs, expected, limit, stop_ids)
      ends.append(expected[-1] in stop_ids)
      if turn == 0:
        expected += AFTER_STOP if ends[0] else AFTER_CUT
    for sample in np.flatnonzero(trajectory.problem_index == index):
      length = trajectory.length[sample]
      assert trajectory.tokens[sample, :length].tolist() == expected
      assert trajectory.finished[sample].tolist() == ends
      _check_logprobs(theirs, trajectory, sample)
  assert trajectory.finished[0, 0]
  assert not trajectory.finished.all()


def _check_logprobs(theirs, trajectory, row):
  length = trajectory.length[row]
  tokens = trajectory.tokens[row, :length]
  logits = hugging_face.logits(theirs, tokens[None])[0]
  logprobs = np.asarray(jax.nn.log_softmax(logits))
  expected = logprobs[np.arange(length - 1), tokens[1:]]
  sampled = trajectory.turn[row, 1:length] > 0
  np.testing.assert_allclose(
    trajectory.logprobs[row, 1:length],
    np.where(sampled, expected, 0),
    rtol=0,
    atol=1e-4,
  )
