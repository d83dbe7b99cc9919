"""Hashable keys of what attempts answer, so that answers can be counted.

Two attempts with equal keys give the same answer. Keys are cheap and never
look at the reference; where telling answers apart takes algebra, different keys
may still be equal (`1/2` in two spellings of a long expression), which
`evaluation.voting.merge_equivalent` asks the task's grader about.
"""

import ast
from collections.abc import Callable, Hashable
import re

from score_jax import types
from score_jax.grading import (
  answer_text,
  direct_grading,
  extraction,
  final_answer,
  quantities,
)

# Between two letters a space may be all that ends a command: `\\sin x`.
_SPACES = re.compile(r'(?<![A-Za-z])\s+|\s+(?![A-Za-z])')

# Columns of a problem that `program` reads.
COLUMNS = ('entry_point', 'prompt_code')

# None: the attempt gives no answer, and abstains.
AnswerKey = Callable[[types.Problem, types.Attempt], Hashable | None]


def digits(problem: types.Problem, attempt: types.Attempt) -> Hashable | None:
  """The attempt itself, if it is all digits."""
  del problem
  text = attempt.text.strip()
  return text if text.isdecimal() else None


def number(problem: types.Problem, attempt: types.Attempt) -> Hashable | None:
  """The final answer as a fraction, if it is one number."""
  del problem
  answer = final_answer.final_answer(attempt.text)
  return None if answer is None else direct_grading.parse_number(answer)


def bare_number(
  problem: types.Problem, attempt: types.Attempt
) -> Hashable | None:
  """The attempt as a fraction, if it is one number."""
  del problem
  return direct_grading.parse_number(attempt.text)


def expression(
  problem: types.Problem, attempt: types.Attempt
) -> Hashable | None:
  """The final answer: a fraction where it is a number, else in one spelling."""
  del problem
  answer = final_answer.final_answer(attempt.text)
  if not answer:
    return None
  plain = answer_text.plain(answer)
  exact = quantities.exact_number(plain)
  return exact[0] if exact else _SPACES.sub('', plain) or None


def program(problem: types.Problem, attempt: types.Attempt) -> Hashable | None:
  """The program, without comments, docstrings and layout, if it parses.

  Programs that behave alike but are written differently have different keys:
  comparing behaviour would take inputs to run them on.
  """
  entry_point, prompt = (problem.columns.get(name, '') for name in COLUMNS)
  source = extraction.extract(attempt.text, entry_point, prompt)
  tree = None if source is None else extraction.parse(source)
  if tree is None:
    return None
  for node in ast.walk(tree):
    _drop_docstring(node)
  return ast.dump(tree)


def _drop_docstring(node: ast.AST) -> None:
  body = getattr(node, 'body', None)
  if not isinstance(body, list) or len(body) < 2:
    return
  first = body[0]
  if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
    del body[0]
