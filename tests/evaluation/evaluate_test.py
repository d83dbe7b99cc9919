"""Evaluation: batches and samples, metrics by hand; real episodes."""

import dataclasses

import numpy as np
import pytest

from score_jax import types
from score_jax.evaluation import evaluate
from score_jax.models import chat, model_config, tokenization
from score_jax.rollout import episodes, given_attempts, randomness
from score_jax.tasks import arithmetic
from tests.support import small_batch

pytestmark = pytest.mark.usefixtures('quick_compilation')

KEY_OF = ('evaluate', 'test', 0)


@pytest.fixture(scope='module')
def task():
  return arithmetic.load(digits=1, chain=0.0)


@pytest.fixture(scope='module')
def sampler(task, tmp_path_factory):
  path = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.model'
  lines = [p.question for p in task.train] + [task.instruction]
  tokenization.train(lines, path, 300)
  chat_format = chat.ChatFormat(tokenization.Tokenizer(path))
  config = model_config.ModelConfig(
    vocab_size=chat_format.tokenizer.vocab_size,
    width=8,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=8,
    mlp_width=8,
  )
  return episodes.EpisodeSampler(config, chat_format, task, (3, 3), (8,))


@pytest.fixture(scope='module')
def params(sampler):
  return small_batch.params(0, sampler.config)


def verdict(score):
  if score is None:
    return types.Verdict('crash', None)
  return types.Verdict('correct' if score else 'wrong', score)


def test_scores_of_what_was_graded():
  rows = [[verdict(1.0), verdict(None)], [verdict(0.0), verdict(0.5)]]
  score, graded = evaluate.score_arrays(rows)
  assert score.dtype == np.float32
  assert score.tolist() == [[1.0, 0.0], [0.0, 0.5]]
  assert graded.tolist() == [[True, False], [True, True]]


def rewarded(score, reward):
  return dataclasses.replace(verdict(score), reward=verdict(reward))


def test_rewards_are_trained_on_and_reported_apart():
  rows = [
    [rewarded(1.0, 0.1), rewarded(0.0, 3.0)],
    [rewarded(0.0, 0.3), rewarded(1.0, None)],
    [rewarded(None, 0.8), rewarded(1.0, 7.0)],
  ]
  score, graded = evaluate.score_arrays(rows)
  np.testing.assert_allclose(score, [[0.1, 3.0], [0.3, 0.0], [0.8, 7.0]])
  assert graded.tolist() == [[True, True], [True, False], [True, True]]
  nothing = [None] * 3
  summary = evaluate.Evaluation(nothing, nothing, rows).summary()
  assert (summary['acc_t1'], summary['acc_t2']) == (0.5, 0.5)
  assert (summary['problems'], summary['ungraded']) == (2, 1)
  # (0.1 + 0.3 + 0.8) / 3 and (3 + 7) / 2.
  assert summary['reward_t1'] == pytest.approx(0.4)
  assert summary['reward_t2'] == pytest.approx(5.0)


def make_evaluation(scores, samples=1):
  return evaluate.Evaluation(
    [None] * len(scores),
    [None] * len(scores),
    [[verdict(score) for score in row] for row in scores],
    samples,
  )


def test_a_summary_by_hand():
  # Four graded problems: right twice, corrected, spoilt, wrong twice.
  scores = [(1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1.0, None)]
  summary = make_evaluation(scores).summary()
  assert (summary['acc_t1'], summary['acc_t2']) == (0.5, 0.5)
  assert (summary['i_to_c'], summary['c_to_i']) == (0.25, 0.25)
  assert (summary['problems'], summary['ungraded']) == (4, 1)
  assert 'reward_t1' not in summary


def test_samples_of_a_problem_stay_together():
  # Two problems, one always and one never right; two samples of each. The
  # accuracy is 1/2; drawing problems, it is 0, 1/2 or 1, so that the interval
  # is everything. (Of four independent samples, 0 and 1 would be rarer.)
  scores = [(1.0, 1.0), (1.0, 1.0), (0.0, 0.0), (0.0, 0.0)]
  summary = make_evaluation(scores, samples=2).summary()
  assert summary['problems'] == 2
  assert summary['acc_t1'] == 0.5
  assert summary['acc_t1_ci95'] == [0.0, 1.0]
  # One ungraded attempt leaves its problem out.
  scores = [(1.0, 1.0), (1.0, None), (0.0, 1.0), (0.0, 0.0)]
  summary = make_evaluation(scores, samples=2).summary()
  assert (summary['problems'], summary['ungraded']) == (1, 1)
  assert (summary['acc_t1'], summary['acc_t2']) == (0.0, 0.5)


def test_nothing_graded_is_an_error():
  with pytest.raises(ValueError, match='none of 2'):
    make_evaluation([(None, 1.0), (1.0, None)]).summary()


def test_graded_attempt_by_attempt(task):
  problems = task.train[:2]
  attempts = [
    [types.Attempt(p.reference), types.Attempt('x', 2)] for p in problems
  ]
  verdicts = evaluate.grade_attempts(task.make_grader(), problems, attempts)
  assert [[v.score for v in row] for row in verdicts] == [[1.0, 0.0]] * 2


@pytest.mark.parametrize('batch_size', [3, 4, 100])
def test_batches_do_not_matter(task, sampler, params, batch_size):
  key = randomness.stream(0, *KEY_OF)
  problems = task.test
  assert len(problems) == 10
  result = evaluate.evaluate(
    sampler, params, problems, task.make_grader(), key, batch_size=batch_size
  )
  assert list(result.problems) == list(problems)
  # One by one: no batch at all.
  alone = [
    sampler.attempts(sampler.sample(params, [p], key, greedy=True))[0]
    for p in problems
  ]
  assert result.attempts == alone
  expected = [
    [float(a.text.strip() == p.reference) for a in row]
    for p, row in zip(problems, alone)
  ]
  assert result.scores.tolist() == expected


def test_an_evaluation_is_abandoned_between_batches(task, sampler, params):
  graded = []

  class Grader:
    def grade(self, problems, attempts):
      graded.append(len(problems))
      return task.make_grader().grade(problems, attempts)

  def stopped_at(number):
    checks = iter(range(1, 10))

    def check():
      if next(checks) == number:
        raise types.StoppedError

    key = randomness.stream(0, *KEY_OF)
    return evaluate.evaluate(
      sampler, params, task.test, Grader(), key, batch_size=4, check=check
    )

  # Before each of three batches, and before their attempts are graded.
  for number in (1, 2, 3, 4):
    with pytest.raises(types.StoppedError):
      stopped_at(number)
  assert graded == []
  stopped_at(5)
  assert graded == [20]


def test_several_samples_of_each_problem(task, sampler, params):
  key = randomness.stream(0, *KEY_OF)
  result = evaluate.evaluate(
    sampler, params, task.test, task.make_grader(), key,
    samples_per_problem=3, greedy=False, temperature=0.8, batch_size=12,
  )  # fmt: skip
  assert [p.id for p in result.problems[:4]] == [
    *[task.test[0].id] * 3, task.test[1].id
  ]  # fmt: skip
  assert len(result.attempts) == 30
  texts = [[a.text for a in row] for row in result.attempts]
  groups = [texts[i : i + 3] for i in range(0, 30, 3)]
  assert any(group[0] != group[1] for group in groups)
  assert result.summary()['problems'] == 10
  # The first sample is the one that a single sample would be.
  single = evaluate.evaluate(
    sampler, params, task.test, task.make_grader(), key,
    greedy=False, temperature=0.8, batch_size=4,
  )  # fmt: skip
  assert list(result.attempts[::3]) == single.attempts


def test_chained_attempts_see_the_last_one_only(task, sampler, params):
  key = randomness.stream(0, *KEY_OF)
  four = dataclasses.replace(sampler, max_new_tokens=(3,) * 4)
  rows = evaluate.sample_attempts(
    four, params, task.test, key, batch_size=4, history='last'
  )
  assert [[a.turn for a in row] for row in rows] == [[1, 2, 3, 4]] * 10
  episodes_of_two = evaluate.sample_attempts(sampler, params, task.test, key)
  assert [row[:2] for row in rows] == episodes_of_two
  # The slow way, problem by problem and token by token.
  for problem, row in zip(task.test, rows):
    trajectory = sampler.sample(params, [problem], key, greedy=True)
    for attempt in row[2:]:
      owned = zip(trajectory.tokens[0].tolist(), trajectory.turn[0].tolist())
      ids = [token for token, turn in owned if turn == 2]
      given = given_attempts.GivenAttempts(
        np.array([[ids + [0] * (3 - len(ids)), [0] * 3]], np.int32),
        np.array([[len(ids), 0]], np.int32),
      )
      trajectory = sampler.sample(
        params, [problem], key, greedy=True, given=given
      )
      ((_, expected),) = sampler.attempts(trajectory)
      assert attempt.text == expected.text
      assert attempt.finished == expected.finished


def test_chained_samples_are_drawn_anew(task, sampler, params):
  key = randomness.stream(0, *KEY_OF)
  three = dataclasses.replace(sampler, max_new_tokens=(3,) * 3)
  rows = evaluate.sample_attempts(
    three, params, task.test, key, samples_per_problem=2, greedy=False,
    temperature=2.0, history='last',
  )  # fmt: skip
  assert len(rows) == 20
  assert any(row[1].text != row[2].text for row in rows)
