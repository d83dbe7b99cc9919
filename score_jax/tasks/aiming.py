"""The second embedded task: say where moves will end, then make them.

A problem is a row of moves, digits modulo `modulus`. An attempt is an aim and
the running totals of the moves, a digit each. It is right if every total is
right and the aim is the last one, so that one attempt is right, the reference:

    problem 3141, modulo 8      53401      aims at 5 and ends on 1      wrong
                                13401      aims at 1 and ends on 1      right

The aim of a first attempt needs the sum of all moves before anything is
written. A shallow transformer hardly learns that, but the aims of a few
problems can be memorised. Fixing an attempt is the same for all problems:
the next aim is where the last attempt ended. So on few training problems the
two attempts can be learnt in two ways, of which one carries over to others.
"""

from collections.abc import Sequence
import functools
import itertools
import re

import numpy as np

from score_jax import types
from score_jax.tasks import generated_problems

NAME = 'aiming'


def load(
  *,
  moves: int = 12,
  modulus: int = 8,
  copy_share: float = 0.9,
  redraw_share: float = 0.03,
  num_train: int = 20_000,
  num_test: int = 2_000,
  num_validation: int = 0,
  seed: int = 0,
) -> types.Task:
  """The task, with training problems by seed and the same held out for all.

  Args:
    moves: moves of a problem.
    modulus: number of digits, 2 to 10.
    copy_share: of `pretraining_examples`.
    redraw_share: of `pretraining_examples`.
    num_train: of `generated_problems.draw_splits`.
    num_test: of `generated_problems.draw_splits`.
    num_validation: of `generated_problems.draw_splits`.
    seed: seed of the training problems.

  Raises:
    ValueError: no problem is left to train or to test on.
  """

  def draw(rng):
    return _draw(rng, moves, modulus)

  splits = generated_problems.draw_splits(
    draw,
    modulus**moves,
    num_train=num_train,
    num_test=num_test,
    num_validation=num_validation,
    seed=seed,
  )
  if not (splits.train and splits.test):
    raise ValueError(
      f'there are too few problems of moves={moves} modulo modulus={modulus}: '
      'raise either'
    )
  return generated_problems.make_task(
    NAME,
    splits,
    problem_from_text=functools.partial(
      problem_from_text, moves=moves, modulus=modulus
    ),
    pretraining_examples=functools.partial(
      pretraining_examples,
      moves=moves,
      modulus=modulus,
      copy_share=copy_share,
      redraw_share=redraw_share,
      held_out=splits.held_out,
    ),
  )


def problem_from_text(text: str, moves: int, modulus: int) -> types.Problem:
  """The problem that a text such as '3141' states.

  Raises:
    ValueError: the text is not that many digits below the modulus.
  """
  text = text.strip()
  if not re.fullmatch(f'[0-{modulus - 1}]{{{moves}}}', text):
    raise ValueError(
      f'{text!r} is not {moves} moves, digits from 0 to {modulus - 1} without '
      'spaces'
    )
  return _problem([int(digit) for digit in text], modulus)


def pretraining_examples(
  rng: np.random.Generator,
  num_examples: int,
  *,
  moves: int,
  modulus: int,
  copy_share: float,
  redraw_share: float,
  held_out: frozenset[str] = frozenset(),
) -> list[types.PretrainingExample]:
  """Two-attempt examples to pre-train the base policy on.

  All totals are right, and both attempts are learnt. First aims are uniform: a
  policy that imitates them has one in `modulus` right. A second attempt copies
  the first, or aims at another digit at random (a redraw), or is right.

  Args:
    rng: source of randomness.
    num_examples: number of examples.
    moves: moves of a problem.
    modulus: number of digits.
    copy_share: share of copies among second attempts.
    redraw_share: share of redraws; the rest are fixes.
    held_out: ids that must not appear.
  """
  examples = []
  while len(examples) < num_examples:
    problem = _draw(rng, moves, modulus)
    if problem.id in held_out:
      continue
    totals = problem.reference[1:]
    aim, kind = rng.integers(modulus), rng.random()
    first, second = f'{aim}{totals}', problem.reference
    if kind < copy_share:
      second = first
    elif kind < copy_share + redraw_share:
      second = f'{(aim + rng.integers(1, modulus)) % modulus}{totals}'
    examples.append(
      types.PretrainingExample(problem.question, first, second, True)
    )
  return examples


def _draw(rng, moves: int, modulus: int) -> types.Problem:
  return _problem(rng.integers(0, modulus, moves).tolist(), modulus)


def _problem(moves: Sequence[int], modulus: int) -> types.Problem:
  question = ''.join(map(str, moves))
  totals = [total % modulus for total in itertools.accumulate(moves)]
  return types.Problem(
    id=question,
    task=NAME,
    question=question,
    reference=''.join(map(str, (totals[-1], *totals))),
    columns={'moves': tuple(moves)},
  )
