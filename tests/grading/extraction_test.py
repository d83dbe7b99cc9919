"""The program in an attempt that counts."""

import time

import pytest

from score_jax.grading import extraction

GOOD = 'def f(x):\n  return x + 1\n'
DRAFT = 'def f(x):\n  # a long draft\n  y = x\n  z = y\n  return z - 1\n'


def fenced(code: str, language: str = 'python', fence: str = '```') -> str:
  return f'{fence}{language}\n{code}{fence}\n'


@pytest.mark.parametrize(
  ('text', 'program'),
  [
    (fenced(GOOD), GOOD),
    (fenced(GOOD, ''), GOOD),
    (fenced(GOOD, 'Python'), GOOD),
    (fenced(GOOD, 'py'), GOOD),
    (fenced(GOOD, 'python3'), GOOD),
    (fenced(GOOD, ' python title="a.py"'), GOOD),
    (fenced(GOOD, fence='~~~'), GOOD),
    (fenced(GOOD, fence='````'), GOOD),
    (fenced(GOOD).replace('\n', '\r\n'), GOOD),
    ('\ufeff' + GOOD, GOOD),
    # A correction counts, though the draft is longer.
    (fenced(DRAFT) + 'Wait, that is wrong. Corrected:\n' + fenced(GOOD), GOOD),
    (DRAFT + '\nThat is wrong.\n\n' + fenced(GOOD), GOOD),
    # Examples and output after the program do not.
    (fenced(GOOD) + 'Use it:\n' + fenced('print(f(1))\n'), GOOD),
    (fenced(GOOD) + 'Output:\n' + fenced('2\n', 'text'), GOOD),
    (fenced(GOOD) + fenced('f(1', ''), GOOD),
    (fenced('pip install x\n', 'bash') + fenced(GOOD), GOOD),
    # The last fence may be open.
    ('```python\n' + GOOD, GOOD),
    (fenced(DRAFT) + 'Better:\n```python\n' + GOOD, GOOD),
    # Without fences.
    (GOOD, GOOD),
    ('[BEGIN]\n' + GOOD + '[DONE]\n\nYou are', '\n' + GOOD),
    (GOOD + '[DONE]', GOOD),
    ('Here it is:\n' + GOOD, GOOD),
    (GOOD + 'This adds one.', GOOD.rstrip('\n')),
    ('import math\n' + GOOD, 'import math\n' + GOOD),
    ('I think so.', None),
    ('', None),
    (fenced('def f(x:\n'), None),
    (GOOD + '\0', None),
    ('#' * 70_000, None),
  ],
)
def test_extract(text, program):
  found = extraction.extract(text, 'f')
  assert (found or '').strip() == (program or '').strip()


def test_what_the_program_needs_comes_with_it():
  program = 'import math\nRATE = 2\n\n' + GOOD
  assert extraction.extract(fenced(program), 'f') == program


def test_bidirectional_controls_are_text_like_any_other():
  hidden = "def f(x):\n  s = '\u202e } \u2066'\n  return x\n"
  assert extraction.extract(fenced(hidden), 'f') == hidden


@pytest.mark.parametrize(
  'body',
  ['    return x + 1\n', 'return x + 1\n', '    return x + 1\n\nprint(f(1'],
)
def test_a_body_continues_its_prompt(body):
  prompt = 'def f(x):\n    """Adds one."""\n'
  program = extraction.extract(body, 'f', prompt)
  space = {}
  exec(program, space)
  assert space['f'](1) == 2


def test_a_block_without_the_entry_point_is_better_than_nothing():
  assert extraction.extract(fenced('g = 1\n'), 'f') == 'g = 1\n'


@pytest.mark.parametrize(
  'text',
  [
    '```\n' * 16_000,
    '`' * 65_000,
    'def f(x):\n' * 6_000,
    '```python\n' + 'x = 1\n' * 10_000,
    '(' * 60_000,
    '-' * 60_000 + '1',
    'a.' * 30_000 + 'b',
    'def f(x): return 1\n' + 'import x y\n' * 5_000,
  ],
  ids=lambda text: text[:12],
)
def test_extraction_is_linear(text):
  start = time.process_time()
  extraction.extract(text, 'f', 'def f(x):\n')
  assert time.process_time() - start < 5
