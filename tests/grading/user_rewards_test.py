"""A user's own reward functions, alone and summed."""

import pytest

from score_jax import types
from score_jax.grading import user_rewards
from score_jax.tasks import registry

PROBLEM = types.Problem('7', 'own', 'How long?', '5', {'level': 3})
SOURCE = """
import asyncio

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

def text(attempt):
  return 'good'

def infinite(attempt):
  return float('inf')

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


def grade(path, name, *texts, turn=1):
  function = user_rewards.load_function(f'{path}:{name}')
  attempts = [types.Attempt(text, turn) for text in texts]
  grader = user_rewards.FunctionGrader(function)
  return grader.grade([PROBLEM] * len(texts), attempts)


@pytest.mark.parametrize(
  ('name', 'text', 'score', 'label'),
  [
    ('length', 'abc', 1.0, 'correct'),
    ('length', 'a', 1 / 3, 'wrong'),
    ('later', '5', 1.0, 'correct'),
    ('later', '6', 0.0, 'wrong'),
    ('nothing', 'skip', None, 'wrong'),
    # len('How long?') + 1
    ('everything', 'x', 10.0, 'correct'),
    ('broken', 'x', None, 'crash'),
    ('text', 'x', None, 'crash'),
    ('infinite', 'x', None, 'crash'),
    ('optional', 'x', 2.0, 'correct'),
  ],
)
def test_one_function(path, name, text, score, label):
  [verdict] = grade(path, name, text)
  assert verdict.score == score
  assert verdict.label == label


def test_order_is_kept_in_async_functions(path):
  verdicts = grade(path, 'later', *(str(n % 7) for n in range(200)))
  assert [v.score for v in verdicts] == [n % 7 == 5 for n in range(200)]


def test_a_missing_column_is_named(path):
  with pytest.raises(ValueError, match='difficulty.*level'):
    grade(path, 'wants', 'x')


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
  with pytest.raises(ValueError, match='a.py:f@x'):
    user_rewards.split_weight('a.py:f@x')


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
  assert verdict.score == pytest.approx(1.3)


def test_an_attempt_that_all_leave_out_is_ungraded(path):
  function = user_rewards.load_function(f'{path}:nothing')
  graders = [user_rewards.FunctionGrader(function)] * 2
  total = user_rewards.WeightedGrader(graders, [1.0, 2.0])
  attempts = [types.Attempt('skip'), types.Attempt('x')]
  verdicts = total.grade([PROBLEM] * 2, attempts)
  assert [verdict.score for verdict in verdicts] == [None, 3.0]


def test_a_file_that_fails_when_imported_is_an_error(tmp_path):
  path = tmp_path / 'broken.py'
  path.write_text('def reward(attempt:\n')
  with pytest.raises(ValueError, match='SyntaxError'):
    user_rewards.load_function(f'{path}:reward')
