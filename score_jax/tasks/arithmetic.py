"""The embedded task: long sums whose carries ripple, leading digit first.

Writing the leading digit of a sum needs the carry from far to its right, which
a shallow transformer without scratch space cannot follow through a long chain
of columns that add up to 9. The second attempt is easier: the carry into a
column can be read off the first attempt's digit one column to the right. So
verifying is easier than generating, which self-correction depends on.

A problem is two numbers of `digits` digits, the answer their sum with
`digits + 1`. Each column adds up to 9 with probability `chain`.
"""

import functools
import re

import numpy as np

from score_jax import types
from score_jax.tasks import generated_problems

NAME = 'arithmetic'
_HARD_CHAIN = (0.3, 0.8)


def load(
  *,
  digits: int = 12,
  chain: float = 0.75,
  copy_hard: float = 0.6,
  easy_chain: float = 0.15,
  easy_right: float = 0.85,
  num_train: int = 20_000,
  num_test: int = 2_000,
  num_validation: int = 0,
  seed: int = 0,
) -> types.Task:
  """The task, with training problems by seed and the same held out for all.

  Args:
    digits: digits of each operand.
    chain: probability that a column adds up to 9, beyond chance.
    copy_hard: of `pretraining_examples`.
    easy_chain: of `pretraining_examples`.
    easy_right: of `pretraining_examples`.
    num_train: of `generated_problems.draw_splits`.
    num_test: of `generated_problems.draw_splits`.
    num_validation: of `generated_problems.draw_splits`.
    seed: seed of the training problems.

  Raises:
    ValueError: no problem is left to train on.
  """

  def draw(rng):
    a, b = _operands(rng, digits, chain)
    return _problem(_number(a), _number(b), digits)

  splits = generated_problems.draw_splits(
    draw,
    # Columns that all add up to 9 leave one choice of ten a column, not 100.
    (10 if chain == 1 else 100) ** digits,
    num_train=num_train,
    num_test=num_test,
    num_validation=num_validation,
    seed=seed,
  )
  if not (splits.train and splits.test):
    raise ValueError(
      f'there are too few sums of digits={digits} digits whose columns add up '
      f'to 9 with probability chain={chain}: raise digits or lower chain'
    )
  return generated_problems.make_task(
    NAME,
    splits,
    problem_from_text=functools.partial(problem_from_text, digits=digits),
    pretraining_examples=functools.partial(
      pretraining_examples,
      digits=digits,
      copy_hard=copy_hard,
      easy_chain=easy_chain,
      easy_right=easy_right,
      held_out=splits.held_out,
    ),
  )


def problem_from_text(text: str, digits: int) -> types.Problem:
  """The problem that a text such as '123 + 4567' states.

  Raises:
    ValueError: the text is no sum of two numbers of at most `digits` digits.
  """
  match = re.fullmatch(r'\s*(\d+)\s*\+\s*(\d+)\s*', text)
  if not match or max(map(len, match.groups())) > digits:
    raise ValueError(
      f'{text!r} is not a sum of two numbers of at most {digits} digits, such '
      "as '123+4567'"
    )
  return _problem(*(int(number) for number in match.groups()), digits)


def pretraining_examples(
  rng: np.random.Generator,
  num_examples: int,
  *,
  digits: int,
  copy_hard: float,
  easy_chain: float,
  easy_right: float,
  held_out: frozenset[str] = frozenset(),
) -> list[types.PretrainingExample]:
  """Two-attempt examples to pre-train the base policy on.

  Half the examples are easy sums, whose first attempt is right with probability
  `easy_right` and has a few wrong digits else, and whose second is a copy in
  half the cases, else right or corrupted. The other half are sums with long
  chains, whose first attempt is the schoolbook error of carrying from the next
  column only, and whose second is a copy with probability `copy_hard`, else
  right: so a base policy that mostly repeats itself has some latent ability to
  correct.

  Args:
    rng: source of randomness.
    num_examples: number of examples.
    digits: digits of each operand.
    copy_hard: share of copies among second attempts at hard sums.
    easy_chain: largest chain probability of easy sums.
    easy_right: share of right first attempts at easy sums.
    held_out: ids that must not appear.
  """
  examples = []
  while len(examples) < num_examples:
    easy = bool(rng.random() < 0.5)
    span = (0.0, easy_chain) if easy else _HARD_CHAIN
    a, b = _operands(rng, digits, rng.uniform(*span))
    if easy:
      # Numbers of any length: a column with a zero shows where its digits are.
      for operand in (a, b):
        operand[: rng.integers(digits)] = 0
    problem = _problem(_number(a), _number(b), digits)
    if problem.id in held_out:
      continue
    right = problem.reference
    if easy:
      first = right if rng.random() < easy_right else _corrupt(rng, right)
      others = (right, _corrupt(rng, first))
      second = first if rng.random() < 0.5 else others[rng.integers(2)]
    else:
      first = _schoolbook_error(a, b)
      second = first if rng.random() < copy_hard else right
    # First attempts at hard sums, all of them wrong, are read, not imitated.
    examples.append(
      types.PretrainingExample(problem.question, first, second, easy)
    )
  return examples


def _operands(rng, digits, chain):
  a = rng.integers(0, 10, digits)
  b = rng.integers(0, 10, digits)
  return a, np.where(rng.random(digits) < chain, 9 - a, b)


def _number(digits) -> int:
  return int(''.join(map(str, digits)))


def _problem(a: int, b: int, digits: int) -> types.Problem:
  question = f'{a:0{digits}d}+{b:0{digits}d}'
  return types.Problem(
    id=question,
    task=NAME,
    question=question,
    reference=f'{a + b:0{digits + 1}d}',
    columns={'a': a, 'b': b},
  )


def _schoolbook_error(a, b) -> str:
  """The sum with each column's carry taken from the next column alone."""
  columns = np.concatenate([[0], a + b])
  carries = np.concatenate([columns[1:] >= 10, [False]])
  return ''.join(map(str, (columns + carries) % 10))


def _corrupt(rng, answer: str) -> str:
  """The answer with one to three digits replaced."""
  digits = list(answer)
  count = min(rng.integers(1, 4), len(digits))
  for place in rng.choice(len(digits), count, replace=False):
    digits[place] = str(rng.integers(10))
  return ''.join(digits)
