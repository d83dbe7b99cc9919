"""What a person reads of an evaluation."""

import io

import pytest
from rich import console as rich_console

from experiments.evaluations import attempts_shown
from score_jax import types
from score_jax.evaluation import evaluate


def _console():
  return rich_console.Console(file=io.StringIO(), width=100)


def _evaluation(labels):
  """Problems of two attempts with these verdicts."""
  numbers = range(len(labels))
  problems = [
    types.Problem(f'p{i}', 'x', f'question {i}', '1') for i in numbers
  ]
  attempts = [
    [types.Attempt(f'{i}-{turn}', turn) for turn in (1, 2)] for i in numbers
  ]
  verdicts = [
    [types.Verdict(label, float(label == 'correct')) for label in row]
    for row in labels
  ]
  return evaluate.Evaluation(problems, attempts, verdicts)


def test_the_first_episodes_of_each_policy():
  console = _console()
  labels = [('wrong', 'correct')] * 3
  graded = {'base': _evaluation(labels), 'stage1': _evaluation(labels)}
  attempts_shown.show(console, graded, 2)
  said = console.file.getvalue()
  for text in ('base · p0', 'base · p1', 'stage1 · p1', 'question 1', '1-2'):
    assert text in said
  assert 'p2' not in said
  console = _console()
  attempts_shown.show(console, graded, 0)
  assert not console.file.getvalue()


@pytest.mark.parametrize(
  ('labels', 'says'),
  [
    ([('wrong', 'correct')] * 4, ''),
    (
      [('unparseable', 'wrong')] + [('wrong', 'wrong')] * 3,
      'base: no answer can be read in 25.0% of attempts 1, 0.0% of attempts 2',
    ),
    ([('unparseable', 'unparseable')] * 4, 'in any attempt'),
  ],
)
def test_answers_that_cannot_be_read(labels, says):
  console = _console()
  attempts_shown.say_unparseable(console, {'base': _evaluation(labels)})
  said = console.file.getvalue()
  assert says in said
  assert bool(said) == bool(says)


def test_progress():
  """The first batch compiles, and says nothing of those that follow."""
  seconds = iter([0.0, 60.0, 70.0, 90.0])
  console = _console()
  report = attempts_shown.progress_of('base', console, lambda: next(seconds))
  for done in (8, 16, 24):
    report(done, 24)
  lines = console.file.getvalue().splitlines()
  assert lines == [
    'base: 8 of 24 problems, left -',
    # 8 problems took 10 seconds, 8 are left.
    'base: 16 of 24 problems, left 0:10',
  ]
