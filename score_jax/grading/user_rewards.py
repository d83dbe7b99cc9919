"""A user's own rewards: `path.py:function`, several of them with weights."""

import asyncio
from collections.abc import Callable, Sequence
import dataclasses
import importlib.util
import inspect
import logging
import math
import pathlib
import queue
import threading
import time
from typing import Any

from score_jax import types

_LOG = logging.getLogger(__name__)
_AT_ONCE = 64
# Score from which an attempt is labelled correct; rewards use scores alone.
_CORRECT_FROM = 1.0
# Scores are float32 where they train. One that is not finite there would spread
# to the whole batch through the baselines.
_LARGEST = 3e38
_LONGEST_REASON = 300
# Of a batch: a server that is down would hold up every attempt.
_MOST_TIMEOUTS = 3


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
    number = float(weight)
  except ValueError:
    number = math.nan
  if not math.isfinite(number):
    raise ValueError(f'the reward {reward}: no finite number after @')
  return name, number


class FunctionGrader:
  """Grades by a function of the attempt's text and the problem's columns.

  The function is passed the arguments that it names: `attempt` (text), `turn`,
  `finished`, `question`, `reference`, `id`, `task`, and any column; with
  `**columns`, all of them. It returns a number, or None to leave the attempt
  out; it may be async. Where it raises, or returns anything else, the attempt
  is ungraded and labelled `crash`; where it takes longer than the time limit,
  `timeout`, as are the others of the batch once three have. How many are, and
  why the first, is logged.

  Example:
    >>> grader = sj.FunctionGrader(lambda attempt: float(len(attempt)))
    >>> [verdict] = grader.grade(task.test[:1], [sj.Attempt('123')])
    >>> verdict.score
    3.0
  """

  def __init__(self, function: Callable[..., Any], timeout: float = 60.0):
    """Grades by the function.

    Args:
      function: see above.
      timeout: seconds that a call may take. One that takes longer cannot be
        ended: it goes on in a thread, unless the function is async.
    """
    self._function = function
    self._timeout = timeout
    self._timeouts = 0  # in this batch
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
    self._timeouts = 0
    if inspect.iscoroutinefunction(self._function):
      verdicts = asyncio.run(self._grade_async(asked))
    else:
      verdicts = [self._grade(arguments) for arguments in asked]
    _warn_of_failures(problems, attempts, verdicts)
    return verdicts

  def check(self, problem: types.Problem) -> None:
    """Compares the function's arguments with a problem; does not call it.

    Raises:
      ValueError: the function asks for a column that the problem lacks.
    """
    self._arguments(problem, types.Attempt(''))

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
    if self._timeouts == _MOST_TIMEOUTS:
      return self._timed_out(start)
    outcome = queue.SimpleQueue()

    def call():
      try:
        outcome.put(_verdict(self._function(**arguments), start))
      except Exception as error:  # whatever the user's code raises
        outcome.put(_failed(error, start))

    threading.Thread(target=call, daemon=True).start()
    try:
      return outcome.get(timeout=self._timeout)
    except queue.Empty:
      self._timeouts += 1
      return self._timed_out(start)

  def _timed_out(self, start: float) -> types.Verdict:
    seconds = time.perf_counter() - start
    reason = f'the function took longer than {self._timeout:g} s'
    if self._timeouts == _MOST_TIMEOUTS:
      reason += f' for {_MOST_TIMEOUTS} attempts of this batch'
    return types.Verdict('timeout', None, seconds, reason)

  async def _grade_async(self, asked) -> list[types.Verdict]:
    # A function that asks a server must not open a connection per attempt.
    slots = asyncio.Semaphore(_AT_ONCE)

    async def call(arguments):
      async with slots:
        start = time.perf_counter()
        if self._timeouts == _MOST_TIMEOUTS:
          return self._timed_out(start)
        try:
          async with asyncio.timeout(self._timeout) as limit:
            score = await self._function(**arguments)
        except Exception as error:  # whatever the code raises
          if not limit.expired():
            return _failed(error, start)
          self._timeouts = min(self._timeouts + 1, _MOST_TIMEOUTS)
          return self._timed_out(start)
        return _verdict(score, start)

    return await asyncio.gather(*(call(arguments) for arguments in asked))


def _verdict(score: Any, start: float) -> types.Verdict:
  """The verdict that a function's return value is."""
  seconds = time.perf_counter() - start
  if score is None:
    return types.Verdict(
      'ungraded', None, seconds, 'the function returned None'
    )
  # float() would take '1' and an array of one number.
  is_text = isinstance(score, str | bytes)
  try:
    number = math.nan if is_text or getattr(score, 'ndim', 0) else float(score)
  except Exception:  # whatever the value raises
    number = math.nan
  if abs(number) <= _LARGEST:
    return types.Verdict(_label(number), number, seconds)
  return _crash(f'the function returned {score!r}, not a finite number', start)


def _label(score: float) -> types.VerdictLabel:
  return 'correct' if score >= _CORRECT_FROM else 'wrong'


def _failed(error: Exception, start: float) -> types.Verdict:
  return _crash(f'the function raised {type(error).__name__}: {error}', start)


def _crash(reason: str, start: float) -> types.Verdict:
  reason = ' '.join(reason.split())[:_LONGEST_REASON]
  return types.Verdict('crash', None, time.perf_counter() - start, reason)


def _warn_of_failures(
  problems: Sequence[types.Problem],
  attempts: Sequence[types.Attempt],
  verdicts: Sequence[types.Verdict],
) -> None:
  failed = ('crash', 'timeout')
  failures = [i for i, v in enumerate(verdicts) if v.label in failed]
  if failures:
    first = failures[0]
    _LOG.warning(
      'a reward function failed on %d of %d attempts; on attempt %d at problem '
      '%s: %s',
      len(failures), len(verdicts), attempts[first].turn, problems[first].id,
      verdicts[first].reason,
    )  # fmt: skip


def interrupt(grader: types.Grader | None) -> None:
  """Ends a `grade` that waits for worker processes; no other."""
  if hasattr(grader, 'interrupt'):
    grader.interrupt()


class RewardGrader:
  """Grades by the task's grader, and apart from it by training rewards.

  A verdict's `reward` is the weighted sum of the rewards. One that leaves an
  attempt out adds nothing. Where all do, or one fails, there is no reward: a
  sum without it could not be compared with that of other attempts.
  """

  def __init__(
    self,
    grader: types.Grader | None,
    rewards: Sequence[tuple[FunctionGrader | None, float]],
    correct_from: float | None = None,
  ):
    """Takes over the task's grader, which it closes.

    Args:
      grader: the task's; None where nothing below asks for it.
      rewards: what grades, and its weight; None stands for `grader`.
      correct_from: an attempt is correct from this reward on; None: where
        `grader` says so.
    """
    self._grader = grader
    self._rewards = list(rewards)
    self._correct_from = correct_from
    if hasattr(grader, 'grade_answers'):
      # Votes ask which answers are equal.
      self.grade_answers = grader.grade_answers

  def check(self, problem: types.Problem) -> None:
    """`FunctionGrader.check` of every function."""
    for function, _ in self._rewards:
      if function is not None:
        function.check(problem)

  def grade(
    self,
    problems: Sequence[types.Problem],
    attempts: Sequence[types.Attempt],
  ) -> list[types.Verdict]:
    """One verdict for each (problem, attempt), in order, with its `reward`."""
    if self._grader is not None:
      own = self._grader.grade(problems, attempts)
    columns = [
      own if function is None else function.grade(problems, attempts)
      for function, _ in self._rewards
    ]
    rewards = [self._sum(verdicts) for verdicts in zip(*columns, strict=True)]
    if self._correct_from is not None:
      own = [_by_reward(reward, self._correct_from) for reward in rewards]
    return [
      dataclasses.replace(verdict, reward=reward)
      for verdict, reward in zip(own, rewards, strict=True)
    ]

  def interrupt(self) -> None:
    """Interrupts the task's grader, if it can be."""
    interrupt(self._grader)

  def close(self) -> None:
    """Closes the task's grader."""
    if self._grader is not None:
      self._grader.close()

  def _sum(self, verdicts: Sequence[types.Verdict]) -> types.Verdict:
    seconds = sum(verdict.seconds for verdict in verdicts)
    reason = '; '.join(v.reason for v in verdicts if v.reason)
    # What is counted of a sum: the first of its parts that went amiss.
    usual = ('correct', 'wrong', 'ungraded')
    labels = [v.label for v in verdicts if v.label not in usual]
    parts = [
      weight * verdict.score
      for verdict, (_, weight) in zip(verdicts, self._rewards)
      if verdict.score is not None
    ]
    has_failed = any(
      v.score is None and v.label != 'ungraded' for v in verdicts
    )
    if has_failed or not parts:
      label = labels[0] if labels else 'ungraded'
      return types.Verdict(label, None, seconds, reason)
    score = sum(parts)
    label = labels[0] if labels else _label(score)
    return types.Verdict(label, score, seconds, reason)


def _by_reward(reward: types.Verdict, correct_from: float) -> types.Verdict:
  """The verdict on an attempt that is correct from a reward on."""
  if reward.score is None:
    return types.Verdict(reward.label, None, reason=reward.reason)
  is_correct = reward.score >= correct_from
  return types.Verdict('correct' if is_correct else 'wrong', float(is_correct))
