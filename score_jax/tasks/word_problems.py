"""Word problems of one sum, difference or product, with answers of few tokens.

For published base models on small machines: English that such a model can
read, examples that show the form of an answer, and attempts of one calculation,
16 tokens at most, so that an episode costs its prompt and little more. Problems
are drawn by seed from sentences, names and things; test and validation problems
are the same for every seed.
"""

from collections.abc import Sequence
import hashlib
import math
from typing import NamedTuple

import numpy as np

from score_jax import types
from score_jax.grading import direct_grading
from score_jax.tasks import generated_problems, prompt_templates

NAME = 'word_problems'

# Plain-text models end their answer as the examples do.
STOP_TEXT = '\n'
INSTRUCTION = (
  'There might be an error in the answer above. Please correct the error, if '
  'any, and write the calculation again.\nAnswer:'
)
REFINE_INSTRUCTION = (
  'Say what is wrong with the answer above, if anything. Then write the '
  'calculation again, in the same line.\nAnswer:'
)
_ASK = 'Question: {question}\nAnswer:'
# One of each operation, with names and things that no problem has. A base model
# that writes the number alone is hardly ever right; one that calculates is now
# and then.
_EXAMPLES = (
  (
    'There are 3 shelves with 8 jars each. How many jars are there?',
    '3 * 8 = 24',
  ),
  (
    'Yusuf had 23 marbles and lost 9. How many are left?',
    '23 - 9 = 14',
  ),
  (
    'A train has 15 seats and a bus has 8. How many seats are there?',
    '15 + 8 = 23',
  ),
)
_PEOPLE = (
  'Anna', 'Ben', 'Carla', 'David', 'Emma', 'Felix', 'Grace', 'Henry', 'Ines',
  'Jack', 'Kate', 'Leo', 'Maria', 'Noah', 'Olga', 'Paul', 'Rosa', 'Sam', 'Tina',
  'Will',
)  # fmt: skip
_THINGS = (
  'apples', 'balls', 'books', 'bottles', 'candles', 'coins', 'cookies', 'cups',
  'eggs', 'flowers', 'keys', 'lemons', 'pencils', 'plates', 'shells', 'stamps',
  'stones', 'tickets', 'toys', 'trees',
)  # fmt: skip


class _Kind(NamedTuple):
  """An operation: its sentences, and the ranges of both operands."""

  sentences: Sequence[str]
  first: tuple[int, int]
  second: tuple[int, int]


_KINDS = {
  '+': _Kind(
    (
      '{name} has {a} {things} and buys {b} more. How many {things} does '
      '{name} have now?',
      '{name} found {a} {things} on Monday and {b} on Tuesday. How many '
      '{things} did {name} find?',
      'There are {a} {things} in one box and {b} in another. How many {things} '
      'are there?',
    ),
    (10, 40),
    (2, 9),
  ),
  '-': _Kind(
    (
      '{name} had {a} {things} and gave {b} of them away. How many {things} '
      'does {name} have left?',
      'There were {a} {things} in a shop and {b} were sold. How many {things} '
      'are left?',
      '{name} needs {a} {things} and has {b}. How many {things} are missing?',
    ),
    (10, 40),
    (2, 9),
  ),
  '*': _Kind(
    (
      'There are {a} boxes with {b} {things} each. How many {things} are '
      'there?',
      '{name} buys {b} {things} every day. How many {things} does {name} buy '
      'in {a} days?',
      'Each of {a} children has {b} {things}. How many {things} do they have?',
    ),
    (2, 9),
    (2, 9),
  ),
}


def load(
  *,
  num_train: int = 20_000,
  num_test: int = 2_000,
  num_validation: int = 0,
  seed: int = 0,
) -> types.Task:
  """The task, with training problems by seed and the same held out for all.

  Args:
    num_train: of `generated_problems.draw_splits`.
    num_test: of `generated_problems.draw_splits`.
    num_validation: of `generated_problems.draw_splits`.
    seed: seed of the training problems.
  """
  splits = generated_problems.draw_splits(
    _draw,
    _count(),
    num_train=num_train,
    num_test=num_test,
    num_validation=num_validation,
    seed=seed,
  )
  examples = ''.join(
    f'{_ASK.replace("{question}", question)}\n{answer}\n\n'
    for question, answer in _EXAMPLES
  )
  templates = prompt_templates.Templates(examples + _ASK)
  return types.Task(
    name=NAME,
    **splits._asdict(),
    prompt=templates.prompt,
    instruction=INSTRUCTION,
    make_grader=make_grader,
    refine_instruction=REFINE_INSTRUCTION,
    stop_texts=(STOP_TEXT,),
  )


def make_grader() -> types.Grader:
  """Grades attempts that are a number, perhaps after an equals sign."""
  return direct_grading.DirectGrader(direct_grading.grade_bare_number)


def _count() -> int:
  """Roughly the number of problems that there are."""
  return sum(
    len(kind.sentences)
    * len(_THINGS)
    * math.prod(high - low + 1 for low, high in (kind.first, kind.second))
    for kind in _KINDS.values()
  )


def _draw(rng: np.random.Generator) -> types.Problem:
  symbol = str(rng.choice(list(_KINDS)))
  kind = _KINDS[symbol]
  a, b = (
    int(rng.integers(low, high + 1)) for low, high in (kind.first, kind.second)
  )
  question = str(rng.choice(kind.sentences)).format(
    name=rng.choice(_PEOPLE), things=rng.choice(_THINGS), a=a, b=b
  )
  answer = {'+': a + b, '-': a - b, '*': a * b}[symbol]
  return types.Problem(
    id=hashlib.sha256(question.encode()).hexdigest()[:16],
    task=NAME,
    question=question,
    reference=str(answer),
    columns={'question': question, 'operation': symbol, 'a': a, 'b': b},
  )
