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
# Score from which an attempt is labelled correct; rewards use scores alone.
_CORRECT_FROM = 1.0


def load_function(path_and_name: str) -> Callable[..., Any]:
  """The function that `path.py:function` names.

  Raises:
    ValueError: the text is not of that form, or file or function is missing.
  """
  path, colon, name = path_and_name.rpartition(':')
  file = pathlib.Path(path).expanduser()
  if not colon or file.suffix != '.py':
    raise ValueError(
      f'the reward {path_and_name} should be path.py:function, or '
      'path.py:function@weight'
    )
  if not file.is_file():
    raise ValueError(f'the reward {path_and_name}: there is no file {file}')
  spec = importlib.util.spec_from_file_location(file.stem, file)
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
  except Exception as error:  # whatever the user's file raises
    raise ValueError(
      f'the reward {path_and_name}: importing {file} failed with '
      f'{type(error).__name__}: {error}'
    ) from error
  function = getattr(module, name, None)
  if not callable(function):
    raise ValueError(f'the reward {path_and_name}: {file} defines no {name}()')
  return function


def split_weight(reward: str) -> tuple[str, float]:
  """('path.py:function', weight) of `path.py:function@weight`; weight 1."""
  name, at, weight = reward.rpartition('@')
  if not at:
    return reward, 1.0
  try:
    return name, float(weight)
  except ValueError:
    raise ValueError(f'the reward {reward}: no number after @') from None


class FunctionGrader:
  """Grades by a function of the attempt's text and the problem's columns.

  The function is passed the arguments that it names: `attempt` (text), `turn`,
  `finished`, `question`, `reference`, `id`, `task`, and any column; with
  `**columns`, all of them. It returns a float, or None to leave the attempt
  out; it may be async. Where it raises, the attempt is ungraded and the reason
  logged.

  Example:
    >>> grader = sj.FunctionGrader(lambda attempt: float(len(attempt)))
    >>> [verdict] = grader.grade(task.test[:1], [sj.Attempt('123')])
    >>> verdict.score
    3.0
  """

  def __init__(self, function: Callable[..., Any]):
    self._function = function
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
    return [self._grade(arguments) for arguments in asked]

  def close(self) -> None:
    """Nothing to end."""

  def _arguments(
    self, problem: types.Problem, attempt: types.Attempt
  ) -> dict[str, Any]:
    available = {
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
      n for n, needed in self._names.items() if needed and n not in available
    ]
    if missing:
      raise ValueError(
        f'the reward function asks for {", ".join(missing)}, which problem '
        f'{problem.id} does not have; there are {", ".join(sorted(available))}'
      )
    if self._takes_all:
      return available
    return {name: available[name] for name in self._names if name in available}

  def _grade(self, arguments: dict[str, Any]) -> types.Verdict:
    start = time.perf_counter()
    try:
      score = self._function(**arguments)
    except Exception as error:  # whatever the user's code raises
      return _failed(error, start)
    return _verdict(score, start)

  async def _grade_async(self, asked) -> list[types.Verdict]:
    # A function that asks a server must not open a connection per attempt.
    slots = asyncio.Semaphore(_AT_ONCE)

    async def call(arguments):
      async with slots:
        start = time.perf_counter()
        try:
          score = await self._function(**arguments)
        except Exception as error:  # whatever the code raises
          return _failed(error, start)
        return _verdict(score, start)

    return await asyncio.gather(*(call(arguments) for arguments in asked))


def _verdict(score: Any, start: float) -> types.Verdict:
  seconds = time.perf_counter() - start
  if score is None:
    return types.Verdict('wrong', None, seconds, 'the function returned None')
  try:
    score = float(score)
  except (TypeError, ValueError):
    reason = f'the function returned {score!r}, not a number or None'
    return types.Verdict('crash', None, seconds, reason)
  if not abs(score) < float('inf'):
    # NaN or infinity would spread to the whole batch through the baselines.
    reason = f'the function returned {score}'
    return types.Verdict('crash', None, seconds, reason)
  return types.Verdict(_label(score), score, seconds)


def _label(score: float) -> types.VerdictLabel:
  return 'correct' if score >= _CORRECT_FROM else 'wrong'


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
  ):
    self._graders = list(graders)
    self._weights = list(weights)

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
    return types.Verdict(_label(score), score, seconds, reason)
