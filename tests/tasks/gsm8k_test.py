"""GSM8K's problems, and judging by the final number."""

import pytest

from score_jax import types
from score_jax.tasks import gsm8k, registry
from tests.support import shared_data


@pytest.mark.parametrize(
  ('answer', 'number'),
  [
    ('18', 18),
    ('-3', -3),
    ('\u22123', -3),
    ('- 3', -3),
    ('1,080', 1080),
    ('109,200,000', 109200000),
    ('12{,}345', 12345),
    ('3.0', 3),
    ('3.', 3),
    ('\\$18', 18),
    ('$18.50', 18.5),
    ('18 dollars', 18),
    ('18\\text{ cm}^2', 18),
    ('18 m^2', 18),
    ('50\\%', 50),
    ('x = 5', 5),
    ('2 + 3 = 5', 5),
    ('1/2', 0.5),
    ('\\frac{1}{2}', 0.5),
    ('5 (that is, 5.0)', 5),
    # Several numbers, or something to be computed, are not a number.
    ('3, 4', None),
    ('3 or 4', None),
    ('3,4,5', None),
    ('10-20', None),
    ('1 1/2', None),
    ('2\\frac{1}{2}', None),
    ('2:30', None),
    ('2^3', None),
    ('5!', None),
    ('1e5', None),
    ('2*9', None),
    ('11_2', None),
    ('1/0', None),
    ('five', None),
    ('', None),
    ('9' * 501, None),
  ],
)
def test_parse_number(answer, number):
  assert gsm8k.parse_number(answer) == number


@pytest.mark.parametrize(
  ('text', 'label'),
  [
    (
      'Final Answer: The final answer is $72$. I hope it is correct.',
      'correct',
    ),
    ('So \\boxed{72}', 'correct'),
    ('48 + 24 = 72\n#### 72', 'correct'),
    ('\\boxed{72.0001}', 'wrong'),
    ('\\boxed{71}, \\boxed{72}', 'unparseable'),
    ('the answer may be 72', 'unparseable'),
    ('', 'unparseable'),
  ],
)
def test_judge(text, label):
  problem = types.Problem('1', 'gsm8k', 'How many?', '72')
  [verdict] = gsm8k.make_grader().grade([problem], [types.Attempt(text)])
  assert verdict.label == label
  assert verdict.score == (label == 'correct')


def test_every_reference_judges_its_own_solution_correct():
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
