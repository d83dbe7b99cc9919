"""Attempts with equal keys answer the same, whatever they look like."""

import pytest

from score_jax import types
from score_jax.tasks import answer_keys, registry


def key(task, text, **columns):
  problem = types.Problem('1', task, 'question', 'reference', columns)
  return registry.answer_key(task)(problem, types.Attempt(text))


SENTENCE = 'So.\nFinal Answer: The final answer is ${}$. I hope it is correct.'


@pytest.mark.parametrize(
  ('task', 'one', 'other', 'is_same'),
  [
    ('arithmetic', '0123', ' 0123\n', True),
    ('arithmetic', '0123', '123', False),
    ('aiming', '13401', '53401', False),
    ('gsm8k', '#### 1,000', SENTENCE.format('1000'), True),
    ('gsm8k', '#### 0.5', '#### 1/2', True),
    ('gsm8k', '#### 5', '#### 6', False),
    ('math', SENTENCE.format(r'\frac12'), r'\boxed{\dfrac{1}{2}}', True),
    ('math', r'\boxed{0.5}', r'\boxed{\frac{1}{2}}', True),
    ('math', r'\boxed{x + 1}', r'Thus \boxed{x+1}.', True),
    ('math', r'\boxed{x+1}', r'\boxed{x+2}', False),
    # A space may end a command: without it this would be another one.
    ('math', r'\boxed{\sin x}', r'\boxed{\sinx}', False),
  ],
)
def test_same_answers(task, one, other, is_same):
  keys = key(task, one), key(task, other)
  assert None not in keys
  assert (keys[0] == keys[1]) == is_same
  assert len({keys[0], keys[1]}) == (1 if is_same else 2)


@pytest.mark.parametrize(
  ('task', 'text'),
  [
    ('arithmetic', ''),
    ('arithmetic', '12a'),
    ('gsm8k', 'I do not know.'),
    ('gsm8k', '#### five'),
    ('math', 'I do not know.'),
    ('math', r'\boxed{}'),
    ('mbpp', 'def f(:'),
    ('mbpp', ''),
  ],
)
def test_without_an_answer(task, text):
  assert key(task, text, entry_point='f') is None


def test_programs_without_comments_and_layout():
  one = 'def f(x):\n  """Adds."""\n  return x+1  # one more\n'
  other = 'Here:\n```python\ndef f(x):\n\n    return x + 1\n```\nDone.'
  third = 'def f(x):\n  return x+2\n'
  keys = [key('mbpp', text, entry_point='f') for text in (one, other, third)]
  assert keys[0] == keys[1] != keys[2]
  # A docstring that is all there is stays: dropping it would leave no body.
  assert key('mbpp', 'def f():\n  "a"', entry_point='f') is not None


def test_completions_of_the_prompt():
  prompt = 'def f(x):\n    """Adds one."""\n'
  columns = {'entry_point': 'f', 'prompt_code': prompt}
  body = key('humaneval', '    return x + 1\n', **columns)
  whole = key('humaneval', 'def f(x):\n  return x + 1', **columns)
  assert body == whole is not None


def test_records_follow_their_grader():
  for grader, function in (
    ('math', answer_keys.expression),
    ('number', answer_keys.number),
    ('code', answer_keys.program),
  ):
    assert registry.answer_key('records', grader) is function
  with pytest.raises(ValueError, match='chess'):
    registry.answer_key('chess')
