"""Word problems: their answers, their splits, what counts as an answer."""

import re

from score_jax import types
from score_jax.tasks import answer_keys, registry, word_problems

TASK = registry.load_task('word_problems', num_validation=50)


def test_answers_follow_from_the_question():
  """By the numbers in the text, whatever their order."""
  for problem in TASK.test[:300]:
    small, large = sorted(map(int, re.findall('[0-9]+', problem.question)))
    by_operation = {'+': large + small, '-': large - small, '*': large * small}
    assert int(problem.reference) == by_operation[problem.columns['operation']]
    assert small > 0
  kinds = {problem.columns['operation'] for problem in TASK.test[:300]}
  assert kinds == {'+', '-', '*'}
  assert len({problem.question.split()[0] for problem in TASK.test}) > 20


def test_held_out_problems_are_the_same_for_every_seed():
  other = word_problems.load(num_validation=50, seed=1)
  assert other.test == TASK.test
  assert other.validation == TASK.validation
  assert other.train != TASK.train
  assert (len(TASK.train), len(TASK.test)) == (20_000, 2_000)
  held_out = {p.id for p in (*TASK.test, *TASK.validation)}
  assert len(held_out) == 2_050
  assert not held_out & {p.id for p in (*TASK.train, *other.train)}


def test_prompts_show_the_form_of_an_answer():
  """The examples end as an attempt must, and are no problems of the task."""
  problem = TASK.test[0]
  prompt = TASK.prompt(problem)
  *shown, last = prompt.split('\n\n')
  assert last == f'Question: {problem.question}\nAnswer:'
  assert len(shown) == 3
  for example in shown:
    # What follows `Answer:` and the line break of the plain style.
    attempt = example.partition('Answer:\n')[2]
    assert attempt
    assert word_problems.STOP_TEXT not in attempt
    question = example.partition('\n')[0].removeprefix('Question: ')
    a, b = map(int, re.findall('[0-9]+', question))
    assert int(attempt.rpartition('=')[2]) in (a + b, a - b, a * b)
    assert question not in {p.question for p in TASK.train}


def test_verdicts_and_votes():
  problem = types.Problem('1', 'word_problems', '', '61')
  grader = word_problems.make_grader()
  for text, label, vote in [
    ('61', 'correct', 61),
    (' 61 cards', 'correct', 61),
    ('24 + 37 = 61', 'correct', 61),
    ('62', 'wrong', 62),
    ('24 + 37', 'unparseable', None),
    ('61 or 62', 'unparseable', None),
    ('sixty-one', 'unparseable', None),
    ('', 'unparseable', None),
  ]:
    attempt = types.Attempt(text)
    [verdict] = grader.grade([problem], [attempt])
    assert verdict.label == label, text
    assert verdict.score == float(label == 'correct')
    key = registry.answer_key('word_problems')
    assert key is answer_keys.bare_number
    assert key(problem, attempt) == vote
