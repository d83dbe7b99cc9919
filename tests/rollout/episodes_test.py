"""Text in, sequences out, and back: against tables and against the engine."""

import jax.numpy as jnp
import numpy as np
import pytest

from score_jax import types
from score_jax.models import chat, model_config, tokenization
from score_jax.rollout import episodes, given_attempts, randomness
from score_jax.tasks import generated_problems
from tests.support import small_batch

pytestmark = pytest.mark.usefixtures('quick_compilation')

LIMITS = (4, 5)
ATTEMPTS = [('046', '046'), ('1', '12345'), ('99999', '7'), ('12', '')]
MESSAGES = ['12+34', '1+2', '333+1', '0+0']
INSTRUCTION = 'Look again'


@pytest.fixture(scope='module')
def chat_format(tmp_path_factory):
  path = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.model'
  lines = [f'{a}+{a}' for a in range(10, 99)] + [INSTRUCTION]
  tokenization.train(lines, path, 300)
  return chat.ChatFormat(tokenization.Tokenizer(path))


@pytest.fixture(scope='module')
def sampler(chat_format):
  config = model_config.ModelConfig(
    vocab_size=chat_format.tokenizer.vocab_size,
    width=8,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=8,
    mlp_width=8,
  )
  task = types.Task(
    name='sums',
    train=(),
    test=(),
    prompt=lambda problem: problem.question,
    instruction=INSTRUCTION,
    make_grader=generated_problems.make_grader,
  )
  return episodes.EpisodeSampler(config, chat_format, task, LIMITS, (8, 12))


@pytest.fixture(scope='module')
def params(sampler):
  return small_batch.params(0, sampler.config)


def test_prompts_go_to_the_smallest_bucket_that_fits(chat_format):
  # BOS, the message's tokens (single digits and the plus sign), a line break.
  assert len(chat_format.prompt('1+2')) == 5
  prompts = episodes.encode_prompts(chat_format, ['1+2', '12+34'], (5, 7, 9))
  assert prompts.tokens.shape == (2, 7)
  assert prompts.length.tolist() == [5, 7]
  assert prompts.tokens[0, 5:].tolist() == [0, 0]
  assert prompts.tokens[1].tolist() == chat_format.prompt('12+34')
  alone = episodes.encode_prompts(chat_format, ['1+2'], (5, 7, 9))
  assert alone.tokens.shape == (1, 5)


def test_a_prompt_that_fits_nowhere_is_rejected(chat_format):
  with pytest.raises(ValueError, match='bucket') as error:
    episodes.encode_prompts(chat_format, ['1+2', '1234567+7'], (5, 8))
  assert '1234567+7' in str(error.value)


def pack(chat_format, length=64):
  return episodes.pack_sequences(
    chat_format, MESSAGES, ATTEMPTS, [INSTRUCTION], length, LIMITS
  )


def test_packed_sequences_piece_by_piece(chat_format):
  made = pack(chat_format)
  stop = chat_format.stop_ids[0]
  encode = chat_format.tokenizer.encode
  # Sequence 1: attempts with their stop tokens, '12345' cut after 5 tokens.
  expected = [
    *chat_format.prompt('1+2'),
    *encode('1'), stop,
    *chat_format.after_stop(INSTRUCTION),
    *encode('12345'),
  ]  # fmt: skip
  length = made.length[1]
  assert made.tokens[1, :length].tolist() == expected
  assert made.finished[1].tolist() == [True, False]
  assert (made.turn[1] == 1).sum() == 2
  assert (made.turn[1] == 2).sum() == 5
  # Sequence 2: '99999' is cut after 4, the separator begins with a stop token.
  second = made.turn[2] == 1
  assert made.tokens[2, second].tolist() == encode('9999')
  after = made.tokens[2, np.flatnonzero(second)[-1] + 1 :]
  given = chat_format.after_cut(INSTRUCTION)
  assert after[: len(given)].tolist() == given
  assert given[0] == stop
  assert made.finished[2].tolist() == [False, True]
  # An empty attempt is a stop token.
  assert made.tokens[3, made.turn[3] == 2].tolist() == [stop]
  assert not made.sampled.any()
  for b, length in enumerate(made.length):
    assert not made.turn[b, length:].any()


def test_a_sequence_that_does_not_fit_is_rejected(chat_format):
  with pytest.raises(ValueError, match='sequence 0'):
    pack(chat_format, length=10)


def test_attempts_come_back_as_text(chat_format):
  back = episodes.decode_attempts(chat_format, pack(chat_format))
  texts = [[attempt.text for attempt in episode] for episode in back]
  assert texts == [['046', '046'], ['1', '12345'], ['9999', '7'], ['12', '']]
  finished = [[attempt.finished for attempt in episode] for episode in back]
  assert finished == [[True, True], [True, False], [False, True], [True] * 2]
  assert [attempt.turn for attempt in back[0]] == [1, 2]


def test_the_engine_lays_given_attempts_out_the_same_way(sampler, params):
  problems = [types.Problem(m, 'sums', m, '') for m in MESSAGES]
  given = given_attempts.encode(
    sampler.chat_format,
    [[types.Attempt(text) for text in episode] for episode in ATTEMPTS],
    LIMITS,
  )
  made = sampler.sample(
    params, problems, randomness.stream(0, 'train', 'x', 0), given=given
  )
  packed = pack(sampler.chat_format, made.tokens.shape[1])
  for name in ('tokens', 'turn', 'length', 'finished', 'sampled', 'logprobs'):
    np.testing.assert_array_equal(
      getattr(made, name), getattr(packed, name), err_msg=name
    )


def test_some_attempts_given_and_others_sampled(sampler, params):
  problems = [types.Problem(m, 'sums', m, '') for m in MESSAGES]
  texts_given = [[types.Attempt(first), None] for first, _ in ATTEMPTS[:2]] + [
    [None, None],
    [None, types.Attempt('5')],
  ]
  given = given_attempts.encode(sampler.chat_format, texts_given, LIMITS)
  made = sampler.sample(
    params, problems, randomness.stream(0, 'train', 'x', 0), given=given
  )
  assert np.asarray(made.sampled).tolist() == [
    [False, True], [False, True], [True, True], [True, False]
  ]  # fmt: skip
  back = sampler.attempts(made)
  assert [episode[0].text for episode in back[:2]] == ['046', '1']
  assert back[3][1].text == '5'
  turn, logprobs = np.asarray(made.turn), np.asarray(made.logprobs)
  assert not logprobs[0][turn[0] == 1].any()
  assert (logprobs[0][turn[0] == 2] < 0).all()
  assert (logprobs[2][turn[2] > 0] < 0).all()


def test_parts_are_the_batch_that_is_sampled_at_once(sampler, params):
  # The first problem is also the last one, with random numbers of its own.
  messages = (*MESSAGES[:3], MESSAGES[0])
  problems = [types.Problem(m, 'sums', m, '') for m in messages]
  key = randomness.stream(0, 'train', 'x', 0)
  whole = sampler.sample(params, problems, key)
  assert not np.array_equal(whole.tokens[0], whole.tokens[3])
  parts = [
    sampler.sample(params, part, key, before=before)
    for before, part in (([], problems[:2]), (problems[:2], problems[2:]))
  ]
  joined = sampler.join(parts)
  assert joined.problem_index.tolist() == [0, 1, 2, 3]
  for name, values in vars(joined).items():
    np.testing.assert_allclose(
      values, getattr(whole, name), atol=1e-5, err_msg=name
    )
  assert sampler.join(parts[:1]) is parts[0]


def test_fewer_turns_than_max_new_tokens(sampler, params):
  problems = [types.Problem(m, 'sums', m, '') for m in MESSAGES]
  key = randomness.stream(0, 'evaluate', 'x', 0)
  both = sampler.sample(params, problems, key)
  first = sampler.sample(params, problems, key, turns=1)
  assert first.finished.shape == (4, 1)
  # The same draws: attempt 1 does not know whether another one follows.
  texts = [episode[0] for episode in sampler.attempts(both)]
  assert [episode[0] for episode in sampler.attempts(first)] == texts


def test_greedy_does_not_depend_on_the_key(sampler, params):
  problems = [types.Problem(m, 'sums', m, '') for m in MESSAGES]
  one, other = (
    sampler.sample(
      params, problems, randomness.stream(seed, 'evaluate', 'x', 0),
      greedy=True, temperature=temperature,
    )
    for seed, temperature in ((0, 1.0), (1, 0.3))
  )  # fmt: skip
  np.testing.assert_array_equal(one.tokens, other.tokens)
  np.testing.assert_array_equal(one.logprobs, other.logprobs)
  sampled = [
    sampler.sample(
      params, problems, randomness.stream(seed, 'evaluate', 'x', 0)
    ).tokens
    for seed in (0, 1)
  ]
  assert jnp.any(sampled[0] != sampled[1])
