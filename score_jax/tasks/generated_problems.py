"""Tasks that make their own problems: drawn by seed, some held out for all."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from score_jax import types
from score_jax.grading import direct_grading

INSTRUCTION = 'Look again'
# The base policy's vocabulary has no other sentence: the letters of a real
# review prompt would be out of distribution and spoil the second attempt.
REFINE_INSTRUCTION = f'{INSTRUCTION}\n{INSTRUCTION}'
# Draws per wanted problem, after which a small space counts as exhausted.
_MOST_DRAWS = 4


class Splits(NamedTuple):
  """Problems by split, as in `types.Task`."""

  train: tuple[types.Problem, ...]
  validation: tuple[types.Problem, ...]
  test: tuple[types.Problem, ...]

  @property
  def held_out(self) -> frozenset[str]:
    """Ids that training and pre-training must not show."""
    return frozenset(p.id for p in (*self.validation, *self.test))


def draw_splits(
  draw: Callable[[np.random.Generator], types.Problem],
  possible: int,
  *,
  num_train: int,
  num_test: int,
  num_validation: int,
  seed: int,
) -> Splits:
  """Disjoint splits of problems whose ids all differ.

  Args:
    draw: draws a problem.
    possible: number of problems that there are.
    num_train: number of training problems; fewer where there are not that many.
    num_test: number of test problems, the same for every seed; at most a tenth
      of all possible problems.
    num_validation: number of validation problems, in the same way.
    seed: seed of the training problems.
  """
  num_test = min(num_test, possible // 10)
  num_validation = min(num_validation, possible // 10)
  num_train = min(num_train, possible - num_test - num_validation)
  drawn: set[str] = set()

  def draw_some(stream, count):
    rng = np.random.default_rng(stream)
    problems = _different(draw, rng, count, drawn)
    drawn.update(problem.id for problem in problems)
    return problems

  test = draw_some((0, 1), num_test)
  validation = draw_some((0, 4), num_validation)
  return Splits(draw_some((seed, 2), num_train), validation, test)


def _different(draw, rng, count, excluded) -> tuple[types.Problem, ...]:
  """Up to `count` different problems, fewer where draws repeat too often."""
  problems = {}
  for _ in range(_MOST_DRAWS * count):
    if len(problems) == count:
      break
    problem = draw(rng)
    if problem.id not in excluded:
      problems[problem.id] = problem
  return tuple(problems.values())


def make_grader() -> types.Grader:
  """Grades attempts character for character: one alone is right."""
  return direct_grading.DirectGrader(direct_grading.grade_text)


def make_task(name: str, splits: Splits, **fields) -> types.Task:
  """A task of these problems, whose questions are asked as they are.

  Args:
    name: the task's.
    splits: its problems.
    **fields: further fields of `types.Task`.
  """
  return types.Task(
    name=name,
    **splits._asdict(),
    prompt=lambda problem: problem.question,
    instruction=INSTRUCTION,
    make_grader=make_grader,
    refine_instruction=REFINE_INSTRUCTION,
    **fields,
  )
