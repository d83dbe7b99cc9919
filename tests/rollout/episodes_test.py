"""Text in, token rows, attempts out, with a real tokenizer."""

import dataclasses

import jax
import numpy as np
import pytest

from score_jax import types
from score_jax.models import chat, tokenizer, transformer
from score_jax.rollout import buckets, engine, episodes
from tests import small_models

_MESSAGES = ['17+25=', '3+4=', '123456+7=']
_INSTRUCTIONS = ['Look again.']


@pytest.fixture(scope='module')
def chat_format(tmp_path_factory):
  path = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.model'
  texts = [*_MESSAGES, *_INSTRUCTIONS, 'The answer is 42.\n'] * 5
  tokenizer.train(texts, path, vocab_size=300)
  return chat.ChatFormat(tokenizer.Tokenizer(path))


def test_prompts_take_the_smallest_bucket_that_fits(chat_format):
  longest = max(len(chat_format.prompt(text)) for text in _MESSAGES)
  sizes = (longest - 1, longest, longest + 9)
  prompts = episodes.encode_prompts(chat_format, _MESSAGES, sizes)
  assert prompts.tokens.shape == (3, longest)
  for text, tokens, length in zip(_MESSAGES, prompts.tokens, prompts.length):
    assert tokens[:length].tolist() == chat_format.prompt(text)
    assert not tokens[length:].any()
  with pytest.raises(ValueError, match=f'{longest} tokens.*123456'):
    episodes.encode_prompts(chat_format, _MESSAGES, sizes[:1])


def test_boundaries_are_the_chat_format_s(chat_format):
  texts = ['Look again.', 'And once more, please.']
  boundaries = engine.make_boundaries(chat_format, texts)
  assert boundaries.stop_ids.tolist() == list(chat_format.stop_ids)
  for k, text in enumerate(texts):
    for table, lengths, expected in (
      (
        boundaries.after_stop,
        boundaries.after_stop_length,
        chat_format.after_stop(text),
      ),
      (
        boundaries.after_cut,
        boundaries.after_cut_length,
        chat_format.after_cut(text),
      ),
    ):
      assert table[k, : int(lengths[k])].tolist() == expected
      assert not table[k, int(lengths[k]) :].any()
  assert boundaries.block == len(chat_format.after_cut(texts[1]))


def test_no_instruction_makes_no_boundary(chat_format):
  boundaries = engine.make_boundaries(chat_format, [])
  assert boundaries.after_stop.shape == (0, 1)
  assert boundaries.block == 1


@pytest.mark.parametrize(
  ('lengths', 'count', 'expected'),
  [
    # Quarters of 1..8 end at the 2nd, 4th, 6th and 8th, rounded up to 4 and 8.
    (range(1, 9), 4, (4, 8)),
    # Halves of ten lengths: the upper neighbour of the median 14.5 is 15.
    (range(10, 20), 2, (16, 20)),
    ([5], 4, (8,)),
    ([8, 8, 40], 1, (40,)),
  ],
)
def test_buckets_by_hand(lengths, count, expected):
  assert buckets.choose_buckets(list(lengths), count, multiple=4) == expected


@pytest.fixture(scope='module')
def policy(chat_format):
  config = dataclasses.replace(
    small_models.CONFIGS['gemma1'],
    vocab_size=chat_format.tokenizer.vocab_size,
    num_layers=1,
  )
  init = jax.jit(transformer.init_params, static_argnums=0)
  return config, init(config, jax.random.key(0))


def _run(chat_format, policy, attempts, limits=(12, 12)):
  config, params = policy
  return engine.sample_episodes(
    params,
    episodes.encode_prompts(chat_format, _MESSAGES, (16,)),
    small_models.row_keys(problems=3, samples=1),
    engine.make_boundaries(chat_format, _INSTRUCTIONS),
    config=config,
    limits=limits,
    samples_per_problem=1,
    given=episodes.given_attempts(chat_format, attempts, limits),
  )


def test_given_text_goes_through_the_engine_unchanged(chat_format, policy):
  """Rows of the engine, when all is given, are those that `pack_rows` packs."""
  texts = [['41', '42'], ['7', '7'], ['1234567890123456', '42']]
  assert len(chat_format.attempt_ids(texts[2][0])) > 12
  cut = '123456789012'
  attempts = [[types.Attempt(text) for text in row] for row in texts]
  trajectory = _run(chat_format, policy, attempts)
  packed = episodes.pack_rows(
    chat_format,
    _MESSAGES,
    texts,
    _INSTRUCTIONS,
    length=trajectory.tokens.shape[1],
    limits=(12, 12),
  )
  for field in dataclasses.fields(packed):
    np.testing.assert_array_equal(
      getattr(trajectory, field.name),
      getattr(packed, field.name),
      err_msg=field.name,
    )
  decoded = episodes.decode_attempts(chat_format, trajectory)
  assert [[a.text for a in row] for row in decoded] == (
    [*texts[:2], [cut, '42']]
  )
  assert [a.finished for row in decoded for a in row] == (
    [True, True, True, True, False, True]
  )
  assert [a.turn for a in decoded[0]] == [1, 2]


def test_given_and_sampled_attempts_in_one_batch(chat_format, policy):
  """None is sampled; a text over the limit is cut there and unfinished."""
  long = '1234567890123456'
  attempts = [
    [types.Attempt('41'), None],
    [None, types.Attempt(long)],
    [None, None],
  ]
  trajectory = _run(chat_format, policy, attempts)
  assert trajectory.sampled.tolist() == [
    [False, True],
    [True, False],
    [True, True],
  ]
  decoded = episodes.decode_attempts(chat_format, trajectory)
  assert decoded[0][0] == types.Attempt('41', turn=1, finished=True)
  assert decoded[1][1] == types.Attempt(long[:12], turn=2, finished=False)


def test_a_row_that_does_not_fit_is_refused(chat_format):
  with pytest.raises(ValueError, match=r'row 0 has \d+ tokens, more than 9'):
    episodes.pack_rows(
      chat_format, _MESSAGES[:1], [['41', '42']], _INSTRUCTIONS, 9, (12, 12)
    )
