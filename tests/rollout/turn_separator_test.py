"""What is given between attempts, with a real tokenizer."""

import dataclasses

import jax
import numpy as np
import pytest

from score_jax import types
from score_jax.models import chat, tokenization, transformer
from score_jax.rollout import engine, episodes, given_attempts, turn_separator
from tests.support import small_models

pytestmark = pytest.mark.usefixtures('quick_compilation')

_MESSAGES = ['17+25=', '3+4=', '123456+7=']
_INSTRUCTIONS = ['Look again.']


@pytest.fixture(scope='module')
def chat_format(tmp_path_factory):
  path = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.model'
  texts = [*_MESSAGES, *_INSTRUCTIONS, 'The answer is 42.\n'] * 5
  turns = (tokenization.START_OF_TURN, tokenization.END_OF_TURN)
  tokenization.train(texts, path, vocab_size=300, reserved=turns)
  return chat.ChatFormat(tokenization.Tokenizer(path))


def test_boundaries_are_the_chat_format_s(chat_format):
  texts = ['Look again.', 'And once more, please.']
  separators = turn_separator.make_separators(chat_format, texts)
  assert separators.stop_ids.tolist() == list(chat_format.stop_ids)
  for k, text in enumerate(texts):
    for table, lengths, expected in (
      (
        separators.after_stop,
        separators.after_stop_length,
        chat_format.after_stop(text),
      ),
      (
        separators.after_cut,
        separators.after_cut_length,
        chat_format.after_cut(text),
      ),
    ):
      assert table[k, : int(lengths[k])].tolist() == expected
      assert not table[k, int(lengths[k]) :].any()
  assert separators.longest == len(chat_format.after_cut(texts[1]))
  assert separators.stop_table is None


def test_no_instruction_makes_no_boundary(chat_format):
  separators = turn_separator.make_separators(chat_format, [])
  assert separators.after_stop.shape == (0, 1)
  assert separators.longest == 1


@pytest.fixture(scope='module')
def policy(chat_format):
  config = dataclasses.replace(
    small_models.CONFIGS['gemma1'],
    vocab_size=chat_format.tokenizer.vocab_size,
    num_layers=1,
  )
  init = jax.jit(transformer.init_params, static_argnums=0)
  return config, init(config, jax.random.key(0))


def _run(chat_format, policy, attempts, max_new_tokens=(12, 12)):
  config, params = policy
  return engine.sample_episodes(
    params,
    episodes.encode_prompts(chat_format, _MESSAGES, (48,)),
    small_models.sequence_keys(problems=3, samples=1),
    turn_separator.make_separators(chat_format, _INSTRUCTIONS),
    config=config,
    max_new_tokens=max_new_tokens,
    samples_per_problem=1,
    given=given_attempts.encode(chat_format, attempts, max_new_tokens),
  )


def test_given_text_goes_through_the_engine_unchanged(chat_format, policy):
  """With everything given, the engine makes what `pack_sequences` packs."""
  texts = [['41', '42'], ['7', '7'], ['1234567890123456', '42']]
  assert len(chat_format.attempt_ids(texts[2][0])) > 12
  cut = '123456789012'
  decoded = _assert_unchanged(chat_format, policy, texts)
  assert [[a.text for a in row] for row in decoded] == (
    [*texts[:2], [cut, '42']]
  )
  assert [a.finished for row in decoded for a in row] == (
    [True, True, True, True, False, True]
  )
  assert [a.turn for a in decoded[0]] == [1, 2]


@pytest.mark.parametrize('style', ['plain', 'gemma'])
def test_given_texts_end_at_stop_texts(chat_format, policy, style):
  """The engine's automaton and separators are the host's."""
  form = dataclasses.replace(chat_format, style=style, stop_texts=('42.', '+'))
  texts = [
    ['The answer is 42.\n17+25=', '41'],
    ['+1', '7+7'],
    # Its 12 tokens end just before the stop text.
    ['123456789012+', '4+2'],
  ]
  decoded = _assert_unchanged(form, policy, texts)
  assert [[a.text for a in row] for row in decoded] == [
    ['The answer is ', '41'],
    ['', '7'],
    ['123456789012', '4'],
  ]
  assert [row[0].finished for row in decoded] == [True, True, False]


def _assert_unchanged(chat_format, policy, texts):
  """The attempts of both, which are the same."""
  attempts = [[types.Attempt(text) for text in row] for row in texts]
  trajectory = _run(chat_format, policy, attempts)
  packed = episodes.pack_sequences(
    chat_format,
    _MESSAGES,
    texts,
    _INSTRUCTIONS,
    length=trajectory.tokens.shape[1],
    max_new_tokens=(12, 12),
  )
  for field in dataclasses.fields(packed):
    np.testing.assert_array_equal(
      getattr(trajectory, field.name),
      getattr(packed, field.name),
      err_msg=field.name,
    )
  return episodes.decode_attempts(chat_format, trajectory)
