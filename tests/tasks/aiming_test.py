"""The second embedded task: totals, aims, and what is held out."""

import itertools

import numpy as np
import pytest

from score_jax import types
from score_jax.tasks import aiming, generated_problems


def ids(problems):
  return {problem.id for problem in problems}


def is_right(text, moves, modulus):
  """By definition: every total right, summed anew, and the last aimed at."""
  aim, *totals = (int(digit) for digit in text)
  sums = [sum(moves[: count + 1]) % modulus for count in range(len(moves))]
  return totals == sums and aim == totals[-1]


@pytest.mark.parametrize(
  ('text', 'reference'),
  [
    # 3, 3 + 1 = 4, 4 + 4 = 8, which is 0, and 1.
    ('3141', '13401'),
    # 7, 14, which is 6, 13, which is 5, and 12, which is 4.
    (' 7777\n', '47654'),
    ('0001', '10001'),
  ],
)
def test_problems_from_text_by_hand(text, reference):
  problem = aiming.problem_from_text(text, 4, 8)
  assert problem.reference == reference
  assert problem.id == problem.question == text.strip()
  assert is_right(reference, problem.columns['moves'], 8)


@pytest.mark.parametrize(
  'text', ['', '314', '31415', '3148', '31 41', '314a', '-314', '3.14', '314٣']
)
def test_what_is_no_problem_is_rejected(text):
  with pytest.raises(ValueError, match='not 4 moves, digits from 0 to 7'):
    aiming.problem_from_text(text, 4, 8)


def test_one_attempt_is_right_and_it_is_so_by_definition():
  # Every attempt at every problem of two moves modulo 3.
  grader = generated_problems.make_grader()
  texts = [''.join(digits) for digits in itertools.product('012', repeat=3)]
  for moves in itertools.product(range(3), repeat=2):
    problem = aiming.problem_from_text(f'{moves[0]}{moves[1]}', 2, 3)
    verdicts = grader.grade(
      [problem] * len(texts), [types.Attempt(text) for text in texts]
    )
    expected = [is_right(text, moves, 3) for text in texts]
    assert [verdict.score for verdict in verdicts] == expected
    assert sum(expected) == 1


@pytest.mark.parametrize(
  ('text', 'score'),
  [
    ('13401', 1.0),
    (' 13401\n', 1.0),
    # Another aim; a wrong total; a wrong last total that is aimed at.
    ('53401', 0.0),
    ('13301', 0.0),
    ('23402', 0.0),
    ('1340', 0.0),
    ('134011', 0.0),
    ('', 0.0),
  ],
)
def test_verdicts(text, score):
  problem = aiming.problem_from_text('3141', 4, 8)
  grader = generated_problems.make_grader()
  [verdict] = grader.grade([problem], [types.Attempt(text)])
  assert verdict.score == score
  assert verdict.label == ('correct' if score else 'wrong')


def test_problems_of_the_task():
  task = aiming.load(moves=5, modulus=7, num_train=200, num_test=50)
  assert (len(task.train), len(task.test)) == (200, 50)
  for problem in (*task.train, *task.test):
    assert problem == aiming.problem_from_text(problem.question, 5, 7)
    assert task.problem_from_text(problem.question) == problem
    assert task.prompt(problem) == problem.question
  # 250 x 5 digits, each of 7 as often: the standard error is 0.0099.
  digits = ''.join(p.question for p in (*task.train, *task.test))
  for digit in '0123456':
    assert digits.count(digit) / 1250 == pytest.approx(1 / 7, abs=0.04)


@pytest.mark.parametrize('moves', [2, 12])
def test_splits_are_disjoint_and_held_out_for_all_seeds(moves):
  sizes = {'moves': moves, 'num_train': 2000, 'num_test': 300}
  tasks = [
    aiming.load(**sizes, num_validation=200, seed=seed) for seed in (0, 1)
  ]
  one, other = tasks
  assert (one.test, one.validation) == (other.test, other.validation)
  # At most a tenth of the 64 problems of two moves.
  held_out = (300, 200) if moves > 2 else (6, 6)
  assert (len(ids(one.test)), len(ids(one.validation))) == held_out
  for task in tasks:
    assert len(ids(task.train)) == len(task.train)
    everything = (*task.train, *task.validation, *task.test)
    assert len(ids(everything)) == len(everything)
  without = aiming.load(**sizes)
  assert (without.test, without.validation) == (one.test, ())
  if moves > 2:
    assert without.train == one.train != other.train


def test_no_problems_at_all_are_rejected():
  # Of nine problems less than one can be held out.
  with pytest.raises(ValueError, match='moves=2 modulo modulus=3'):
    aiming.load(moves=2, modulus=3)


def examples_of(seed, count, **options):
  settings = {'moves': 4, 'modulus': 8, 'copy_share': 0.6, 'redraw_share': 0.1}
  return aiming.pretraining_examples(
    np.random.default_rng(seed), count, **settings | options
  )


def test_pretraining_examples_by_kind():
  kinds = {'copy': 0, 'fix': 0, 'redraw': 0}
  aims = np.zeros(8)
  examples = examples_of(1, 6000)
  for message, first, second, first_in_loss in examples:
    reference = aiming.problem_from_text(message, 4, 8).reference
    assert first_in_loss
    # All totals are right: a right aim is the last digit of any attempt.
    assert first[1:] == second[1:] == reference[1:]
    assert len(first) == len(second) == 5
    aims[int(first[0])] += 1
    if first[0] != first[-1]:
      is_fix = second[0] == first[-1]
      kind = 'copy' if second == first else 'fix' if is_fix else 'redraw'
      kinds[kind] += 1
  # First attempts: uniform, so one in eight is right. Standard error 0.0043.
  np.testing.assert_allclose(aims / 6000, 1 / 8, atol=0.017)
  wrong = sum(kinds.values())
  assert wrong / 6000 == pytest.approx(7 / 8, abs=0.017)
  # A redraw is one of seven other aims, and the right one in a seventh.
  # Standard errors: 0.0068, 0.0064, 0.0039.
  assert kinds['copy'] / wrong == pytest.approx(0.6, abs=0.027)
  assert kinds['fix'] / wrong == pytest.approx(0.3 + 0.1 / 7, abs=0.026)
  assert kinds['redraw'] / wrong == pytest.approx(0.1 * 6 / 7, abs=0.016)


def test_a_right_first_attempt_is_fixed_by_copying_it():
  examples = examples_of(2, 400, copy_share=0.0, redraw_share=0.0)
  right = 0
  for message, first, second, _ in examples:
    reference = aiming.problem_from_text(message, 4, 8).reference
    assert second == reference
    right += first == reference
  assert right


def test_shares_that_leave_nothing():
  for _, first, second, _ in examples_of(3, 200, copy_share=1.0):
    assert second == first
  for _, first, second, _ in examples_of(
    4, 200, copy_share=0.0, redraw_share=1.0
  ):
    assert second != first


def test_pretraining_never_shows_what_is_held_out():
  # 64 problems of two moves, 12 of them held out: a leak would show.
  task = aiming.load(moves=2, num_validation=10)
  held_out = ids((*task.validation, *task.test))
  assert len(held_out) == 12
  examples = task.pretraining_examples(np.random.default_rng(0), 400)
  shown = {example.message for example in examples}
  assert len(examples) == 400
  # All the others are shown.
  assert len(shown) == 64 - 12
  assert not shown & held_out


def test_examples_are_a_function_of_the_generator():
  assert examples_of(5, 20) == examples_of(5, 20) != examples_of(6, 20)
