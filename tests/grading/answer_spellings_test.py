"""Spellings of an answer, and the wrong answers that look like them."""

import contextlib

import pytest

from score_jax.grading import (
  algebra,
  answer_equality,
  answer_text,
  direct_grading,
)

PRIMES = r'2^{10} \cdot 3^{5} \cdot 5^{3} \cdot 7^{2}'
SAME = [
  # Products of prime powers.
  (PRIMES, r'7^2 \cdot 2^{10} \cdot 3^{5} \cdot 5^{3}'),
  (r'2^{100} \cdot 3^{50} \cdot 5^{20}', r'3^{50}\cdot 10^{20}\cdot 2^{80}'),
  ('10^{100}', r'10^{50}\cdot 10^{25}\cdot 10^{25}'),
  ('184756', r'\frac{20!}{(10!)^2}'),
  (r'2^{100} \sqrt{12}', r'2^{101} \sqrt{3}'),
  (r'10^{60} \sin^2 1 + 10^{60} \cos^2 1', '10^{60}'),
  # Sums with indexed terms.
  ('a_1+a_2+a_3', 'a_3+a_1+a_2'),
  (r'a_1+a_2+\dots+a_n', r'a_1+a_2+\cdots+a_n'),
  (r'a_1+a_2+\ldots+a_n', 'a_2 + a_1 + ... + a_n'),
  (r'1\cdot 2\cdots n', r'1 \cdot 2 \cdot \ldots \cdot n'),
  (r'\sum_{i=1}^{n} a_i', r'\sum_{k=1}^n a_k'),
  (r'\sum_{i=1}^{n} a_i^2 b_i', r'\sum\limits_{j=1}^{n} b_j a_j^2'),
  (r'S = \sum_{k=0}^{2n} \frac{1}{2^k}', r'\sum_{i=0}^{n+n} 2^{-i}'),
  (
    r'\sum_{i=1}^{n} \sum_{j=1}^{m} a_{ij}',
    r'\sum_{k=1}^{n} \sum_{l=1}^{m} a_{kl}',
  ),
  (r'3 - 2^{-1} + \ldots', r'3 - \frac{1}{2} + \ldots'),
  # One side is the value.
  ('5', '5 = x'),
  ('5 = x', '5'),
  ('x = 5', '5 = x'),
  (r'\frac{1}{2}', r'0.5 = P(A)'),
  ('(1,2)', '(1,2) = (x,y)'),
  ('1, 2', '1 = x, 2 = y'),
  ('5', 'f(3) = 5'),
  ('f(3) = 5', '5'),
  ('f(3) = 5', '5 = f(3)'),
  ('5', r'f(3) = 2 \cdot 3 - 1 = 5'),
  ('2', 'f^{-1}(-3) = 2'),
  ('7', 'g(f(1)) = 7'),
  # A set is the same if it repeats a member.
  (r'\{1, 2\}', r'\{1, 2, 2\}'),
  (r'\{1, 2\}', r'\{2, 1, 1, 2\}'),
  (r'\{0.5, 3\}', r'A = \{\frac{1}{2}, 0.5, 3\}'),
  (r'x \in \{1, 2\}', r'\{1, 2, 1\}'),
  (r'\{(1,2), (3,4)\}', r'\{(1,2), (3,4), (1, 2)\}'),
  (r'\{1, 1, 2\}', r'\{1, 2, 1\}'),
  # Groups of digits.
  ('1000000', r'1\,000\,000'),
  ('1000000', r'1\;000\;000'),
  ('1000000', '1\u2009000\u2009000'),
  ('1000000', '1\u202f000\u202f000'),
  ('(1000, 2)', r'(1\,000, 2)'),
  ('(1000, 2)', '(1{,}000, 2)'),
  ('1000, 2000', '1\u2009000, 2\u2009000'),
  ('1234567.891', r'1\,234\,567.891'),
  ('3.141592', r'3.141\,592'),
  ('100000', '1,00,000'),
  ('12050000', '1,20,50,000'),
  ('12, 34, 567', '12,34,567'),
  # Times of the day.
  ('3:00', '3:00:00'),
  (r'3:00:00 \text{ p.m.}', r'3:00 \text{ p.m.}'),
  (r'3:00 \text{ p.m.}', '15:00:00'),
  (r'3:00:30 \text{ p.m.}', r'3:00:30 \text{ PM}'),
]
DIFFERENT = [
  (PRIMES, r'2^{10} \cdot 3^{5} \cdot 5^{3} \cdot 7^{3}'),
  (PRIMES, r'2^{5} \cdot 3^{10} \cdot 5^{3} \cdot 7^{2}'),
  (r'2^{100} \cdot 3^{50}', r'2^{50} \cdot 3^{100}'),
  (r'2^{100} \cdot 3^{50}', r'2^{100} \cdot 3^{50} + 1'),
  (r'2^{100} \cdot 3^{50}', '6^{150}'),
  (r'2^{100} \sqrt{3}', r'2^{100} \sqrt{3} + 1'),
  (r'2^{100} x', r'2^{100} x + 1'),
  ('184756', r'\frac{20!}{10!}'),
  ('a_1+a_2+a_3', 'a_1+a_2+a_4'),
  ('a_1+a_2+a_3', 'a_1a_2a_3'),
  (r'1+3+\cdots+99', r'2+2+\cdots+99'),
  (r'1+3+\ldots+99', r'1+99+\ldots'),
  (r'1+3+\ldots+99', r'1+3+\ldots+101'),
  (r'1+2+\cdots+n', r'1\cdot 2\cdots n'),
  (r'a_1+\cdots+a_n', r'a_1-\cdots+a_n'),
  (r'a_1+a_2+\cdots+a_n', r'a_1+a_2+a_n'),
  (r'\sum_{i=1}^{n} a_i', 'n a_i'),
  (r'\sum_{i=1}^{n} a_i', r'\sum_{k=1}^{n} a_i'),
  (r'\sum_{i=1}^{n} a_i', r'\sum_{i=1}^{m} a_i'),
  (r'\sum_{i=1}^{n} a_i', r'\sum_{i=0}^{n} a_i'),
  (r'\sum_{i=1}^{n} a_i', r'\sum_{i=1}^{n} b_i'),
  (r'\sum_{i=1}^{n} a_i', r'\sum_{i=1}^{n} a_{i+1}'),
  (r'\sum_{i=1}^{n} i^2', r'\sum_{i=1}^{n} (-1)'),
  (r'\sum_{i=1}^{n} (a_i + 1)', r'\sum_{i=1}^{n} a_i + 1'),
  (r'\sum_{i=1}^{n} a_i', r'2\sum_{i=1}^{n} a_i'),
  (r'S = \sum_{i=1}^{n} a_i', r'T = \sum_{i=1}^{n} a_i'),
  (r'\sum_{i=1}^{5} i', r'\sum_{i=1}^{100000} i!'),
  ('x+1', r'\sum_{i=1}^{100000} i!'),
  ('5', 'x+2 = 5'),
  ('5', '5 = x+2'),
  ('5', '2x = 5'),
  ('5', '5 = 2x'),
  ('x', 'x = 5'),
  ('25', '25 = x^2'),
  ('5', '5 = -x'),
  ('x = 5', '5 = y'),
  ('5', '6 = x'),
  ('5', '5 = x = 6'),
  ('5', '5 < x'),
  ('1, 2', '2 = x, 1 = x, 3 = x'),
  ('x=1, y=2', '2 = x, 1 = y'),
  ('f(3) = 5', 'f(2) = 5'),
  ('f(3) = 2a', 'f(x) = 2a'),
  ('5', 'f(3) = 6'),
  ('3', 'f(3) = 5'),
  ('5', 'f(x+3) = 5'),
  # Products, not values of a function.
  ('10', 'x(2) = 10'),
  ('10', '2(x) = 10'),
  (r'\{1, 2\}', r'\{1, 1\}'),
  (r'\{1, 2\}', r'\{1, 2, 3\}'),
  (r'\{1, 2\}', r'\{1, 2, 3, 3\}'),
  (r'\{1, 2, 3\}', r'\{1, 2, 2\}'),
  (r'\{1, 2, 3\}', r'\{1, 2, 2, 1\}'),
  # Where the reference counts members, they count.
  (r'\{1, 2, 2\}', r'\{1, 2\}'),
  (r'\{1, 1, 2\}', r'\{1, 2, 2, 2\}'),
  # Lists and tuples are no sets.
  ('1, 2', '1, 2, 2'),
  ('1, 2', r'\{1, 2, 2\}'),
  (r'\{1, 2\}', '1, 2, 2'),
  ('(1, 2)', '(1, 2, 2)'),
  (r'\{5, 6\}', r'\{5\text{ cm}, 5\text{ m}, 6\}'),
  ('12', r'1\;2'),
  ('1000', '1 000'),
  ('1000000', r'1\,000\,00'),
  ('1000000', r'1\,000\,001'),
  ('1234567', r'12\,34\,567'),
  ('1234567', '12,34,567'),
  ('(12, 34, 567)', '1234567'),
  ('100000', '(1,00,000)'),
  ('(1,000)', '(1,00,000)'),
  ('1000000', '1,00,000'),
  ('1000000', '1000,000'),
  ('1002', '(1,002)'),
  ('125', '0{,}125'),
  ('125', '0,125'),
  ('1000.2', r'1\,000,200'),
  ('1000200', r'1\,000,200'),
  (r'\frac{1234}{567}', '1\u2009234/567'),
  (r'1\frac{234}{567}', r'1\;234\frac{1}{567}'),
  ('2^{3500}', r'2^3\,500'),
  ('1234567', r'1.234\,567'),
  ('3:00', '3:00:30'),
  ('3:00', '3:01:00'),
  ('3:00:00', '4:00'),
  (r'3:00:00 \text{ p.m.}', r'3:00 \text{ a.m.}'),
  (r'3:00:30 \text{ p.m.}', r'3:00:31 \text{ p.m.}'),
  # Ratios of three numbers are no times.
  ('2:30:45', '14:30:45'),
  ('2:30', '2:30:45'),
  ('2:3', '2:3:00'),
]


@pytest.mark.parametrize(('gold', 'pred'), SAME)
def test_same(gold, pred):
  assert answer_equality.same(gold, pred)


@pytest.mark.parametrize(('gold', 'pred'), DIFFERENT)
def test_different(gold, pred):
  # Refusing to read the attempt's answer is as good as calling it another.
  with contextlib.suppress(algebra.UnparseableError):
    assert not answer_equality.same(gold, pred)


@pytest.mark.parametrize(
  'gold', [r'\sum_{i=1}^{n} a_i', r'a_1+a_2+\cdots+a_n', '5 = x', 'f(3) = 5']
)
def test_references_are_readable(gold):
  assert answer_equality.readable(gold)


@pytest.mark.parametrize(
  ('text', 'answer'),
  [
    ('the largest $n$ is 34', '34'),
    (r'The largest possible value of \(n\) is \(34\).', '34'),
    ('It works. Thus, the smallest positive integer $n$ equals **34**.', '34'),
    ('Answer: The volume of $ABCD$ is 120. I hope it is correct.', '120'),
    ('The maximum of $f(x)$ is $2k$', '2k'),
    ('The value of $p$ is 1/2', '1/2'),
    ('The final answer is the largest $n$ is 34.', '34'),
    # What says something else of the name is no answer of its own.
    ('half of $n$ is 34', 'n'),
    ('one less than the largest $n$ is 34', 'n'),
    ('the number of digits of $n$ is 34', 'n'),
    ('the largest $n$ is not 34', 'n'),
    ('the largest $n$ is at most 34', 'n'),
    ('the largest $n$ is less than 34', 'n'),
    ('the largest $n$ is 34 or 35', 'n'),
    ('the largest $n$ is 34 squared', 'n'),
    ('the largest $2n$ is 34', '2n'),
    ('unless $n$ is 34', 'n'),
    ('The largest $n$ is 34. The smallest $n$ is 3.', '3'),
    ('the largest $n$ is 34,35', '34,35'),
  ],
)
def test_the_value_of_a_name_in_a_sentence(text, answer):
  assert answer_text.stated(text) == answer


@pytest.mark.parametrize(
  ('answer', 'number'),
  [
    (r'1\,000', 1000),
    (r'1\;000', 1000),
    ('1\u2009000\u2009000', 1_000_000),
    ('1\u202f000', 1000),
    ('1{,}000', 1000),
    ('(1,000)', 1000),
    ('1,00,000', 100_000),
    ('1 000', None),
    ('12,34,567', None),
    ('1\u200900', None),
  ],
)
def test_numbers_of_gsm8k(answer, number):
  assert direct_grading.parse_number(answer) == number
