"""The part of an attempt that counts as its answer."""

import time

import pytest

from score_jax.grading import final_answer

PAPER = 'Final Answer: The final answer is $%s$. I hope it is correct.'


@pytest.mark.parametrize(
  ('text', 'answer'),
  [
    (PAPER % '5', '5'),
    ('so it is 4.\n' + PAPER % r'\frac{1}{2}', r'\frac{1}{2}'),
    (PAPER % '3' + '\nWait.\n' + PAPER % '4', '4'),
    (r'Thus \boxed{7}.', '7'),
    (r'\boxed{\frac{1}{\sqrt{2}}}', r'\frac{1}{\sqrt{2}}'),
    (r'\boxed{\boxed{3}}', '3'),
    (r'\boxed{\text{A \} brace}}', r'\text{A \} brace}'),
    (r'\fbox{7}', '7'),
    (r'\boxed 7.', '7.'),
    # A box that was cut off is none; the one before it counts.
    (r'\boxed{6} and then \boxed{\frac{1}{2', '6'),
    # The later form counts, whichever it is.
    (r'\boxed{3} but ' + PAPER % '4', '4'),
    (PAPER % '4' + r' No: \boxed{3}', '3'),
    ('#### 18', '18'),
    ('#### 18\n' + PAPER % '19', '19'),
    # A box in the sentence is its frame.
    (PAPER % r'\boxed{9}', '9'),
    ('The final answer is **5**.', '5'),
    (r'The final answer is \(x=5\).', 'x=5'),
    (r'The final answer is \[x\].', 'x'),
    ('The final answer is: $5$ dollars. I hope it is correct.', '5'),
    ('The final answer is $18. I hope it is correct.', '18'),
    (r'The final answer is $\$18$. I hope it is correct.', r'\$18'),
    (
      'The final answer is $\\begin{pmatrix}1\\\\\n2\\end{pmatrix}$.\nDone.',
      '\\begin{pmatrix}1\\\\\n2\\end{pmatrix}',
    ),
    ('The final answer is 5\nI also think of 6', '5'),
    # Side by side: the answer is the list.
    (r'\boxed{3}, \boxed{4} or \boxed{5}', '3, 4, 5'),
    (r'$\boxed{3}$ and $\boxed{4}$', '3, 4'),
    (PAPER % '3$, $4$ or $5', '3, 4, 5'),
    (PAPER % '3$ or $4', '3, 4'),
    ('The final answer is $3$ or maybe $4$.', '3 or maybe 4'),
    (r'The final answer is $3$ or \boxed{4}.', '3 or 4'),
    ('The final answer is the largest $n$ is 34.', '34'),
    ('The final answer is $n$ is $34$. I hope it is correct.', '34'),
    ('#### the smallest $x$ is 1/2', '1/2'),
    ('The final answer is half of $n$ is 34.', 'half of n is 34'),
    (r'\boxed{3}, which is not four, so \boxed{4}', '4'),
    (r'\boxed{}', ''),
    ('five', None),
    ('', None),
    (r'\boxed{5', None),
  ],
)
def test_final_answer(text, answer):
  assert final_answer.final_answer(text) == answer


@pytest.mark.parametrize(
  'text',
  [
    '\\boxed{' * 50_000,
    '{' * 300_000,
    '\\boxed{1}' * 30_000,
    '\\boxed{1}' + ' ' * 300_000 + '\\boxed{2}',
    'final answer is ' * 20_000,
    'The final answer is ' + '$' * 300_000,
    '####' * 50_000,
    '\n' * 300_000 + '####',
    'The final answer is ' + ' ' * 300_000,
    'The final answer is x' + ' ' * 300_000,
    'The final answer is ' + '.' * 200_000,
    'The final answer is $1$' + ', ' * 100_000 + '$2$',
    'The final answer is $1$ ' + 'or ' * 100_000 + 'x',
    'The final answer is the' + ' ' * 300_000 + '$n$ is 34',
    'The final answer is ' + 'the ' * 75_000 + '$n$ is 34',
    'The final answer is the largest $n$ is ' + '1' * 300_000 + 'x',
  ],
  ids=lambda text: text[:20],
)
def test_extraction_is_linear(text):
  # A quadratic scan of these takes minutes; 2 s allow for a busy machine.
  start = time.process_time()
  final_answer.final_answer(text)
  assert time.process_time() - start < 2
