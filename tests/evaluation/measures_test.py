"""Votes over answers that only algebra finds equal, with the real grader."""

import contextlib

import pytest

from score_jax import types
from score_jax.evaluation import evaluate, measures
from score_jax.grading import math_grading
from score_jax.tasks import answer_keys


@pytest.fixture(name='grader', scope='module')
def fixture_grader():
  grader = math_grading.MathGrader(workers=1)
  with contextlib.closing(grader):
    yield grader


def evaluation(grader, answers, reference):
  """One problem, each answer boxed in an attempt of one turn."""
  problem = types.Problem('1', 'math', 'Simplify.', reference)
  attempts = [[types.Attempt(rf'\boxed{{{answer}}}')] for answer in answers]
  rows = [problem] * len(answers)
  verdicts = evaluate.grade_attempts(grader, rows, attempts)
  return evaluate.Evaluation(rows, attempts, verdicts, len(answers))


def test_respelled_answers_vote_together(grader):
  # Two spellings of the right answer against twice the same wrong one, which
  # was there first and would win the tie.
  answers = ['x+2', 'x+2', '1+x', r'\frac{2x+2}{2}', 'x+1']
  graded = evaluation(grader, answers, 'x+1')
  wanted = measures.Wanted(majority_at=(5,), pass_at=(1,))
  measured = measures.measure(wanted, graded, answer_keys.expression, grader)
  assert measured['acc_t1'] == 3 / 5
  assert measured['pass_at']['1']['t1'] == pytest.approx(3 / 5)
  assert measured['majority_at']['5']['t1'] == 1.0


def test_spelling_alone_would_lose(grader):
  answers = ['x+2', 'x+2', '1+x', r'\frac{2x+2}{2}', 'x+1']
  graded = evaluation(grader, answers, 'x+1')
  keys = measures.answers(graded, answer_keys.expression)
  assert len({row[0] for row in keys}) == 4


def test_the_reference_does_not_vote(grader):
  # Wrong answers that agree win, whatever is right.
  graded = evaluation(grader, ['7', '7', '8'], '8')
  wanted = measures.Wanted(majority_at=(3,))
  measured = measures.measure(wanted, graded, answer_keys.expression, grader)
  assert measured['majority_at']['3']['t1'] == 0.0


def test_other_problems_are_not_compared(grader):
  first = evaluation(grader, ['7'], '7')
  second = evaluate.Evaluation(
    [types.Problem('2', 'math', 'Else.', '7')], first.attempts, first.verdicts
  )
  with pytest.raises(ValueError, match='asked different problems'):
    measures.compare(first, second)
