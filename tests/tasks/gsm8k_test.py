"""GSM8K's problems, prompts and references."""

import pytest

from score_jax import types
from score_jax.tasks import registry
from tests.support import shared_data


def test_every_reference_grades_its_own_solution_correct():
  data_dir = shared_data.path('gsm8k').parent
  task = registry.load_task('gsm8k', data_dir=str(data_dir))
  assert (len(task.train), len(task.test)) == (7473, 1319)
  problems = [*task.train, *task.test]
  assert len({problem.id for problem in problems}) == len(problems)
  attempts = [types.Attempt(p.columns['answer']) for p in problems]
  verdicts = task.make_grader().grade(problems, attempts)
  assert {verdict.label for verdict in verdicts} == {'correct'}


def test_prompts_ask_the_question_in_the_papers_words():
  data_dir = shared_data.path('gsm8k').parent
  task = registry.load_task('gsm8k', data_dir=str(data_dir), chat=False)
  text = task.prompt(task.train[0])
  assert text.startswith('You are a math expert. When you respond')
  assert task.train[0].question in text
  assert text.endswith('Solution:\n')
  assert 'There might be an error in the solution above' in task.instruction


def test_missing_files_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='gsm8k/train.jsonl'):
    registry.load_task('gsm8k', data_dir=str(tmp_path))
