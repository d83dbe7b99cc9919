"""A user's own reward functions, alone and summed."""

import pytest

from score_jax import types
from score_jax.grading import user_rewards
from score_jax.tasks import registry

PROBLEM = types.Problem('7', 'own', 'How long?', '5', {'level': 3})
SOURCE = """
import asyncio

import numpy as np

def length(attempt, level):
  return len(attempt) / level

async def later(attempt, reference):
  await asyncio.sleep(0)
  return float(attempt == reference)

def nothing(attempt):
  return None if attempt == 'skip' else 1

def everything(**columns):
  return len(columns['question']) + columns['turn']

def broken(attempt):
  raise KeyError('oh')

import threading

FOREVER = threading.Event()
CALLED = []

def hangs(attempt):
  CALLED.append(attempt)
  if attempt == 'x':
    FOREVER.wait()
  return 1

async def hangs_later(attempt):
  CALLED.append(attempt)
  if attempt == 'x':
    await asyncio.sleep(10**6)
  return 1

RETURNED = {
  'text': 'good',
  'number as text': '0.5',
  'infinite': float('inf'),
  'too large for float32': 1e39,
  'too large for float': 10**400,
  'not a number': float('nan'),
  'array': np.array([[0.5, 0.5], [0.5, 0.5]]),
  'array of one': np.array([0.5]),
  'complex': 1j,
  'scalar': np.float32(0.5),
  'array without axes': np.array(0.5),
  'boolean': True,
}

def returned(attempt):
  return RETURNED[attempt]

def optional(attempt, difficulty=2):
  return difficulty

def wants(attempt, difficulty):
  return difficulty

constant = 3
"""


@pytest.fixture
def path(tmp_path):
  file = tmp_path / 'my_rewards.py'
  file.write_text(SOURCE)
  return str(file)


def grade(path, name, *texts, turn=1, **options):
  function = user_rewards.load_function(f'{path}:{name}')
  attempts = [types.Attempt(text, turn) for text in texts]
  grader = user_rewards.FunctionGrader(function, **options)
  return grader.grade([PROBLEM] * len(texts), attempts)


@pytest.mark.parametrize(
  ('name', 'text', 'score', 'label'),
  [
    ('length', 'abc', 1.0, 'correct'),
    ('length', 'a', 1 / 3, 'wrong'),
    ('later', '5', 1.0, 'correct'),
    ('later', '6', 0.0, 'wrong'),
    ('nothing', 'skip', None, 'ungraded'),
    # len('How long?') + 1
    ('everything', 'x', 10.0, 'correct'),
    ('broken', 'x', None, 'crash'),
    ('returned', 'text', None, 'crash'),
    ('returned', 'number as text', None, 'crash'),
    ('returned', 'infinite', None, 'crash'),
    ('returned', 'too large for float32', None, 'crash'),
    ('returned', 'too large for float', None, 'crash'),
    ('returned', 'not a number', None, 'crash'),
    ('returned', 'array', None, 'crash'),
    ('returned', 'array of one', None, 'crash'),
    ('returned', 'complex', None, 'crash'),
    ('returned', 'scalar', 0.5, 'wrong'),
    ('returned', 'array without axes', 0.5, 'wrong'),
    ('returned', 'boolean', 1.0, 'correct'),
    ('optional', 'x', 2.0, 'correct'),
  ],
)
def test_one_function(path, name, text, score, label):
  [verdict] = grade(path, name, text)
  assert verdict.score == score
  assert verdict.label == label
  assert bool(verdict.reason) == (score is None)
  assert '\n' not in verdict.reason


def test_failures_are_counted_and_the_first_is_named(path, caplog):
  texts = ['boolean', 'text', 'no such', 'text']
  verdicts = grade(path, 'returned', *texts, turn=2)
  assert [v.label for v in verdicts] == ['correct', *['crash'] * 3]
  assert verdicts[2].reason == "the function raised KeyError: 'no such'"
  [record] = caplog.records
  assert record.getMessage() == (
    'a reward function failed on 3 of 4 attempts; on attempt 2 at problem 7: '
    "the function returned 'good', not a finite number"
  )


@pytest.mark.parametrize('name', ['hangs', 'hangs_later'])
def test_a_function_that_hangs_does_not_hold_up_a_batch(path, name, caplog):
  verdicts = grade(path, name, 'a', 'x', 'b', timeout=0.2)
  assert [v.score for v in verdicts] == [1.0, None, 1.0]
  assert verdicts[1].label == 'timeout'
  assert verdicts[1].reason == 'the function took longer than 0.2 s'
  assert 'failed on 1 of 3 attempts' in caplog.text


def test_after_three_timeouts_a_batch_is_given_up(path):
  function = user_rewards.load_function(f'{path}:hangs')
  grader = user_rewards.FunctionGrader(function, timeout=0.05)

  def labels(*texts):
    attempts = [types.Attempt(text) for text in texts]
    verdicts = grader.grade([PROBLEM] * len(texts), attempts)
    return [verdict.label for verdict in verdicts]

  assert labels('x', 'x', 'a', 'x', 'b') == [
    'timeout', 'timeout', 'correct', 'timeout', 'timeout'
  ]  # fmt: skip
  assert function.__globals__['CALLED'] == ['x', 'x', 'a', 'x']
  # The next batch is tried anew.
  assert labels('c') == ['correct']


def test_order_is_kept_in_async_functions(path):
  verdicts = grade(path, 'later', *(str(n % 7) for n in range(200)))
  assert [v.score for v in verdicts] == [n % 7 == 5 for n in range(200)]


def test_a_missing_column_is_named(path):
  with pytest.raises(ValueError, match='difficulty.*level'):
    grade(path, 'wants', 'x')
  function = user_rewards.load_function(f'{path}:wants')
  with pytest.raises(ValueError, match='difficulty.*level'):
    user_rewards.FunctionGrader(function).check(PROBLEM)


@pytest.mark.parametrize(
  ('reward', 'message'),
  [
    ('{path}:missing', 'missing'),
    ('{path}:constant', 'constant'),
    ('{path}x.py:f', 'x.py'),
    ('length', 'path.py:function'),
  ],
)
def test_what_is_wrong_is_said(path, reward, message):
  with pytest.raises(ValueError, match=message):
    user_rewards.load_function(reward.replace('{path}', path))


def test_weights(path):
  assert user_rewards.split_weight('a.py:f') == ('a.py:f', 1.0)
  assert user_rewards.split_weight('a.py:f@0.5') == ('a.py:f', 0.5)
  for wrong in ('a.py:f@x', 'a.py:f@nan', 'a.py:f@inf'):
    with pytest.raises(ValueError, match=wrong):
      user_rewards.split_weight(wrong)


def test_sum_of_rewards_with_the_tasks_own(path, tmp_path):
  rows = tmp_path / 'rows.jsonl'
  rows.write_text('{"question": "2+3?", "reference": "5", "level": 2}\n')
  task = registry.load_task(
    'records',
    file=str(rows),
    grader='number',
    rewards=('task', f'{path}:length@0.1', f'{path}:nothing@0'),
  )
  grader = task.make_grader()
  [verdict] = grader.grade(task.train, [types.Attempt('#### 5')])
  grader.close()
  # 1 for the answer, and a tenth of 6 characters / level 2.
  assert verdict.reward.score == pytest.approx(1.3)
  assert (verdict.label, verdict.score) == ('correct', 1.0)


class Exact:
  """Attempts that are the reference are correct; 'lost' ones are ungraded."""

  is_closed = False

  def __init__(self):
    self.asked = 0

  def grade(self, problems, attempts):
    self.asked += len(attempts)
    return [
      types.Verdict('timeout', None, reason='too long')
      if attempt.text == 'lost'
      else types.Verdict('correct', 1.0)
      if attempt.text == problem.reference
      else types.Verdict('unparseable', 0.0)
      for problem, attempt in zip(problems, attempts, strict=True)
    ]

  def grade_answers(self, golds, preds):
    return ['asked' for _ in golds]

  def close(self):
    self.is_closed = True


def verdicts_of(path, rewards, *texts, correct_from=None):
  """Verdicts of rewards by name and weight, and the task's grader."""
  grader = Exact()
  weighted = [
    (
      name
      and user_rewards.FunctionGrader(
        user_rewards.load_function(f'{path}:{name}')
      ),
      weight,
    )
    for name, weight in rewards
  ]
  total = user_rewards.RewardGrader(grader, weighted, correct_from)
  attempts = [types.Attempt(text) for text in texts]
  verdicts = total.grade([PROBLEM] * len(texts), attempts)
  assert total.grade_answers(['1'], ['1']) == ['asked']
  total.close()
  assert grader.is_closed
  # Whoever stands for the task's grader has its verdicts: none are made twice.
  assert grader.asked == len(texts)
  return verdicts


def test_correct_is_what_the_task_says_whatever_is_rewarded(path):
  # length / level: 1/3, 2, 4/3; the last is beyond the task's grader.
  verdicts = verdicts_of(path, [('length', 1.0)], '5', '123456', 'lost')
  assert [v.label for v in verdicts] == ['correct', 'unparseable', 'timeout']
  assert [v.score for v in verdicts] == [1.0, 0.0, None]
  rewards = [v.for_training.score for v in verdicts]
  assert rewards == pytest.approx([1 / 3, 2.0, 4 / 3])
  # Nothing went amiss with the reward.
  assert [v.reward.label for v in verdicts] == ['wrong', 'correct', 'correct']


def test_correct_from_a_reward_on(path):
  verdicts = verdicts_of(
    path, [('returned', 1.0)], 'scalar', 'boolean', 'text', '5',
    correct_from=0.6,
  )  # fmt: skip
  assert [v.score for v in verdicts] == [0.0, 1.0, None, None]
  assert [v.label for v in verdicts] == ['wrong', 'correct', 'crash', 'crash']
  assert [v.reward.score for v in verdicts] == [0.5, 1.0, None, None]


def test_an_attempt_that_all_leave_out_is_not_rewarded(path):
  verdicts = verdicts_of(
    path, [('nothing', 1.0), ('nothing', 2.0)], 'skip', 'x', '5'
  )
  assert [v.reward.score for v in verdicts] == [None, 3.0, 3.0]
  assert [v.score for v in verdicts] == [0.0, 0.0, 1.0]


def test_no_part_of_a_sum_fails_unseen(path):
  rewards = [('nothing', 1.0), ('returned', 1.0), (None, 1.0)]
  verdicts = verdicts_of(path, rewards, 'boolean', 'text', 'lost')
  # 1 + 1 + 0; a reward that fails; a task's grader that does, as a reward.
  assert [v.reward.score for v in verdicts] == [2.0, None, None]
  assert [v.reward.label for v in verdicts] == ['unparseable', 'crash', 'crash']
  assert [v.score for v in verdicts] == [0.0, 0.0, None]


def test_a_file_that_fails_when_imported_is_an_error(tmp_path):
  path = tmp_path / 'broken.py'
  path.write_text('def reward(attempt:\n')
  with pytest.raises(ValueError, match='SyntaxError'):
    user_rewards.load_function(f'{path}:reward')
