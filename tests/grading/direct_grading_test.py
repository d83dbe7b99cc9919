"""Numbers read from answers, and grading by the final number alone."""

import pytest

from score_jax import types
from score_jax.grading import direct_grading


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
  assert direct_grading.parse_number(answer) == number


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
def test_grade_number(text, label):
  grader = direct_grading.DirectGrader(direct_grading.grade_number)
  problem = types.Problem('1', 'gsm8k', 'How many?', '72')
  [verdict] = grader.grade([problem], [types.Attempt(text)])
  assert verdict.label == label
  assert verdict.score == (label == 'correct')
