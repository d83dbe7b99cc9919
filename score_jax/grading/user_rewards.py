"""A user's own reward functions: `path.py:function`, several with weights."""

import asyncio
from collections.abc import Callable, Sequence
import importlib.util
import inspect
import logging
import pathlib
import time
from typing import Any

from score_jax import types

_LOG = logging.getLogger(__name__)
_AT_ONCE = 64


def load_function(path_and_name: str) -> Callable[..., Any]:
  """The function that `path.py:function` names.

  Raises:
    ValueError: the text, the file or the function is not as it should be.
  """
  path, colon, name = path_and_name.rpartition(':')
  file = pathlib.Path(path).expanduser()
  if not colon or file.suffix != '.py':
    raise ValueError(
      f'--reward={path_and_name} should be path.py:function, or '
      'path.py:function@weight'
    )
  if not file.is_file():
    raise ValueError(f'--reward={path_and_name}: there is no file {file}')
  spec = importlib.util.spec_from_file_location(file.stem, file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  function = getattr(module, name, None)
  if not callable(function):
    raise ValueError(f'--reward={path_and_name}: {file} defines no {name}()')
  return function


def split_weight(reward: str) -> tuple[str, float]:
  """('path.py:function', weight) of `path.py:function@weight`; weight 1."""
  name, at, weight = reward.rpartition('@')
  if not at:
    return reward, 1.0
  try:
    return name, float(weight)
  except ValueError:
    raise ValueError(f'--reward={reward}: no number after @') from None


class FunctionGrader:
  """Judges by a function of the attempt's text and the problem's columns.

  The function takes what it names: `attempt` (text), `turn`, `finished`,
  `question`, `reference`, `id`, `task`, and any column; with `**columns`, all
  of them. It returns a float, or None to leave the attempt out; it may be
  async. Where it raises, the attempt is ungraded and the reason logged.
  """

  def __init__(self, function: Callable[..., Any], threshold: float = 1.0):
    """`threshold` is the score from which an attempt is called correct."""
    self._function = function
    self._threshold = threshold
    parameters = inspect.signature(function).parameters.values()
    self._takes_all = any(p.kind == p.VAR_KEYWORD for p in parameters)
    self._names = {
      p.name: p.default is p.empty
      for p in parameters
      if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }

  def grade(
    self,
    problems: Sequence[types.Problem],
    attempts: Sequence[types.Attempt],
  ) -> list[types.Verdict]:
    """One verdict for each (problem, attempt), in order.

    Raises:
      ValueError: the function asks for a column that a problem does not have.
    """
    asked = [
      self._arguments(problem, attempt)
      for problem, attempt in zip(problems, attempts, strict=True)
    ]
    if inspect.iscoroutinefunction(self._function):
      return asyncio.run(self._grade_async(asked))
    return [self._judge(arguments) for arguments in asked]

  def close(self) -> None:
    """Nothing to end."""

  def _arguments(
    self, problem: types.Problem, attempt: types.Attempt
  ) -> dict[str, Any]:
    there = {
      **problem.columns,
      'question': problem.question,
      'reference': problem.reference,
      'id': problem.id,
      'task': problem.task,
      'attempt': attempt.text,
      'turn': attempt.turn,
      'finished': attempt.finished,
    }
    missing = [
      n for n, needed in self._names.items() if needed and n not in there
    ]
    if missing:
      raise ValueError(
        f'the reward function asks for {", ".join(missing)}, which problem '
        f'{problem.id} does not have; there are {", ".join(sorted(there))}'
      )
    if self._takes_all:
      return there
    return {name: there[name] for name in self._names if name in there}

  def _judge(self, arguments: dict[str, Any]) -> types.Verdict:
    start = time.perf_counter()
    try:
      score = self._function(**arguments)
    except Exception as error:  # whatever the user's code raises
      return _failed(error, start)
    return self._verdict(score, start)

  async def _grade_async(self, asked) -> list[types.Verdict]:
    places = asyncio.Semaphore(_AT_ONCE)

    async def call(arguments):
      async with places:
        start = time.perf_counter()
        try:
          score = await self._function(**arguments)
        except Exception as error:  # whatever the code raises
          return _failed(error, start)
        return self._verdict(score, start)

    return await asyncio.gather(*(call(arguments) for arguments in asked))

  def _verdict(self, score: Any, start: float) -> types.Verdict:
    seconds = time.perf_counter() - start
    if score is None:
      return types.Verdict('wrong', None, seconds, 'the function returned None')
    try:
      score = float(score)
    except (TypeError, ValueError):
      reason = f'the function returned {score!r}, not a number or None'
      return types.Verdict('crash', None, seconds, reason)
    if not abs(score) < float('inf'):
      reason = f'the function returned {score}'
      return types.Verdict('crash', None, seconds, reason)
    label = 'correct' if score >= self._threshold else 'wrong'
    return types.Verdict(label, score, seconds)


def _failed(error: Exception, start: float) -> types.Verdict:
  reason = f'the reward function raised {type(error).__name__}: {error}'
  _LOG.warning(reason)
  seconds = time.perf_counter() - start
  return types.Verdict('crash', None, seconds, reason[:300])


class WeightedGrader:
  """The weighted sum of several graders' scores.

  A grader that leaves an attempt out adds nothing; an attempt that all leave
  out is ungraded.
  """

  def __init__(
    self,
    graders: Sequence[types.Grader],
    weights: Sequence[float],
    threshold: float = 1.0,
  ):
    """`threshold` is the sum from which an attempt is called correct."""
    self._graders = list(graders)
    self._weights = list(weights)
    self._threshold = threshold

  def grade(
    self,
    problems: Sequence[types.Problem],
    attempts: Sequence[types.Attempt],
  ) -> list[types.Verdict]:
    """One verdict for each (problem, attempt), in order."""
    columns = [grader.grade(problems, attempts) for grader in self._graders]
    return [self._sum(verdicts) for verdicts in zip(*columns)]

  def close(self) -> None:
    """Closes every grader."""
    for grader in self._graders:
      grader.close()

  def _sum(self, verdicts: Sequence[types.Verdict]) -> types.Verdict:
    seconds = sum(verdict.seconds for verdict in verdicts)
    reason = '; '.join(v.reason for v in verdicts if v.reason)
    parts = [
      weight * verdict.score
      for weight, verdict in zip(self._weights, verdicts)
      if verdict.score is not None
    ]
    if not parts:
      return types.Verdict(verdicts[0].label, None, seconds, reason)
    score = sum(parts)
    label = 'correct' if score >= self._threshold else 'wrong'
    return types.Verdict(label, score, seconds, reason)
