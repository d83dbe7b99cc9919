"""The embedded task: sums, errors in them, and held-out problems."""

import re

import numpy as np
import pytest

from score_jax import types
from score_jax.tasks import arithmetic, generated_problems


def ids(problems):
  return {problem.id for problem in problems}


def examples_of(seed, count, **options):
  settings = {'copy_hard': 0.5, 'easy_chain': 0.15, 'easy_right': 0.85}
  return arithmetic.pretraining_examples(
    np.random.default_rng(seed), count, **settings | options
  )


def test_sums_are_right_and_of_fixed_length():
  task = arithmetic.load(digits=5, num_train=200, num_test=50)
  assert (len(task.train), len(task.test)) == (200, 50)
  for problem in (*task.train, *task.test):
    assert re.fullmatch(r'\d{5}\+\d{5}', problem.question)
    assert len(problem.reference) == 6
    a, b = map(int, problem.question.split('+'))
    assert int(problem.reference) == a + b
    assert (problem.columns['a'], problem.columns['b']) == (a, b)
    assert task.prompt(problem) == problem.question


@pytest.mark.parametrize('digits', [1, 2, 4, 12])
def test_held_out_problems_are_no_seeds_training_problems(digits):
  tasks = [
    arithmetic.load(digits=digits, num_train=2000, num_test=300, seed=seed)
    for seed in range(4)
  ]
  test = tasks[0].test
  assert len(ids(test)) == len(test)
  for task in tasks:
    assert task.test == test
    assert not ids(task.train) & ids(test)
    assert len(ids(task.train)) == len(task.train)
  if digits > 2:
    assert tasks[0].train != tasks[1].train


@pytest.mark.parametrize('digits', [1, 12])
def test_validation_problems_are_neither_trained_on_nor_tested(digits):
  sizes = {'digits': digits, 'num_train': 2000, 'num_test': 300}
  tasks = [
    arithmetic.load(**sizes, num_validation=200, seed=seed) for seed in (0, 1)
  ]
  assert tasks[0].validation == tasks[1].validation
  # At most a tenth of the hundred sums of one digit each.
  assert len(ids(tasks[0].validation)) == (200 if digits > 1 else 10)
  for task in tasks:
    assert not ids(task.validation) & ids((*task.train, *task.test))
  without = arithmetic.load(**sizes)
  assert without.validation == ()
  assert without.test == tasks[0].test
  if digits > 1:
    assert without.train == tasks[0].train


def test_pretraining_never_shows_what_is_held_out():
  # Half of all sums of two digits are held out, so that a leak would show.
  held_out = frozenset(
    f'{a}+{b}' for a in range(10) for b in range(10) if (a + b) % 2
  )
  examples = examples_of(0, 400, digits=1, held_out=held_out)
  assert len(examples) == 400
  assert not {question for question, *_ in examples} & held_out


def test_columns_add_up_to_nine_as_often_as_asked():
  # With probability 0.75, and by chance in a tenth of the others.
  task = arithmetic.load(digits=12, chain=0.75, num_train=500, num_test=10)
  columns = [
    int(x) + int(y) for p in task.train for x, y in zip(*p.question.split('+'))
  ]
  share = np.mean(np.array(columns) == 9)
  # 6,000 columns: the standard error is 0.0054.
  assert share == pytest.approx(0.775, abs=0.022)


def test_few_sums_are_fewer_problems():
  task = arithmetic.load(digits=1, chain=0.0)
  assert len(task.test) == 10
  assert 70 <= len(task.train) <= 90


def test_no_sums_at_all_are_rejected():
  with pytest.raises(ValueError, match='digits'):
    arithmetic.load(digits=1, chain=1.0, num_train=0)


@pytest.mark.parametrize(
  ('text', 'question', 'reference'),
  [
    ('12+34', '012+034', '0046'),
    (' 999 + 1 ', '999+001', '1000'),
    ('0+0', '000+000', '0000'),
    ('007+7', '007+007', '0014'),
  ],
)
def test_problems_from_text(text, question, reference):
  problem = arithmetic.problem_from_text(text, 3)
  assert (problem.question, problem.reference) == (question, reference)
  assert problem.id == question


@pytest.mark.parametrize(
  'text', ['', '1', '1+', '1+2+3', '1-2', '1234+1', 'a+b', '1.5+2', '-1+2']
)
def test_what_is_no_sum_is_rejected(text):
  with pytest.raises(ValueError, match='at most 3 digits'):
    arithmetic.problem_from_text(text, 3)


@pytest.mark.parametrize(
  ('text', 'score'),
  [
    ('0046', 1.0),
    (' 0046\n', 1.0),
    ('46', 0.0),
    ('0047', 0.0),
    ('00460', 0.0),
    ('', 0.0),
  ],
)
def test_verdicts(text, score):
  grader = generated_problems.make_grader()
  problem = arithmetic.problem_from_text('12+34', 3)
  [verdict] = grader.grade([problem], [types.Attempt(text)])
  assert verdict.score == score
  assert verdict.label == ('correct' if score else 'wrong')


def test_the_schoolbook_error():
  # 149 + 252 = 401. Columns 3, 9, 11 from the left: with the carry of the
  # next column alone the nine does not pass it on: 0 3 (9 + 1) (11) -> 0301.
  error = arithmetic._schoolbook_error(np.array([1, 4, 9]), np.array([2, 5, 2]))
  assert error == '0301'


def test_pretraining_examples_by_kind():
  examples = examples_of(1, 4000, digits=8, copy_hard=0.6)
  easy = [e for e in examples if e[3]]
  hard = [e for e in examples if not e[3]]
  assert len(easy) / 4000 == pytest.approx(0.5, abs=0.04)

  def right(question):
    a, b = (int(number) for number in question.split('+'))
    return f'{a + b:09d}'

  # Easy sums: 85 % of the first attempts are right, and all have nine digits.
  assert np.mean(
    [first == right(q) for q, first, _, _ in easy]
  ) == pytest.approx(0.85, abs=0.04)
  assert all(len(f) == len(s) == 9 for _, f, s, _ in examples)
  # Hard sums whose first attempt is wrong: it is copied in 60 %, or fixed.
  wrong = [(q, f, s) for q, f, s, _ in hard if f != right(q)]
  copies = [f == s for _, f, s in wrong]
  assert len(wrong) > 1000
  assert np.mean(copies) == pytest.approx(0.6, abs=0.05)
  assert all(s in (f, right(q)) for q, f, s in wrong)


def test_examples_are_a_function_of_the_generator():
  one, other = (examples_of(seed, 20, digits=6) for seed in (5, 5))
  assert one == other
