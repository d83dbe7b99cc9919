"""Grading math attempts: the final answer, by rule and algebra in workers."""

from collections.abc import Callable, Mapping, Sequence
import logging
from typing import Any

from score_jax import types
from score_jax.grading import final_answer, quantities, worker_pool

_LOG = logging.getLogger(__name__)
LONGEST_ANSWER = 1000
_LONGEST_CACHE = 200_000


def make_handler(
  **conventions: Any,
) -> Callable[[Mapping[str, str]], dict[str, str]]:
  """The function that a worker answers jobs with: (gold, pred) to a label."""
  # Only workers pay for importing sympy: the parent never does.
  from sympy.core import cache

  from score_jax.grading import algebra, answer_equality

  settings = answer_equality.Conventions(**conventions)
  handled = 0

  def handle(job: Mapping[str, str]) -> dict[str, str]:
    nonlocal handled
    handled += 1
    # sympy's caches grow without bound, and the worker lives as long as a run.
    if handled % 500 == 0:
      cache.clear_cache()
    try:
      if 'pred' not in job:
        readable = answer_equality.readable(job['gold'])
        label = 'correct' if readable else 'unparseable'
        return {'label': label, 'reason': 'reference'}
      if answer_equality.same(job['gold'], job['pred'], settings):
        return {'label': 'correct', 'reason': ''}
    except algebra.UnparseableError as error:
      return {'label': 'unparseable', 'reason': str(error)}
    reason = f'{job["pred"][:80]!r} is not {job["gold"][:80]!r}'
    return {'label': 'wrong', 'reason': reason}

  # The grammar builds its tables on first use: not at the first job's expense.
  handle({'gold': '\\frac{x+1}{2}', 'pred': '0.5x + \\frac12'})
  handle({'gold': 'x < 1', 'pred': '-x > -1'})
  return handle


class MathGrader:
  """Grades attempts by their final answer against the reference."""

  def __init__(
    self,
    *,
    workers: int | None = None,
    cpu_seconds: float = 3.0,
    deadline: float = 90.0,
    **conventions: Any,
  ):
    """Starts the workers.

    Args:
      workers: number of processes; None for one less than there are cores.
      cpu_seconds: CPU time for one answer; past it the attempt has score 0.
      deadline: wall time after which a worker is killed.
      **conventions: fields of `answer_equality.Policy`.
    """
    self._cache: dict[tuple[str, str], tuple[types.VerdictLabel, str]] = {}
    self.pool = worker_pool.Pool(
      'math',
      conventions,
      workers=workers,
      cpu_seconds=cpu_seconds,
      deadline=deadline,
    )

  def grade(
    self,
    problems: Sequence[types.Problem],
    attempts: Sequence[types.Attempt],
    done: Callable[[int], None] | None = None,
  ) -> list[types.Verdict]:
    """One verdict for each (problem, attempt), in order.

    Score 1 or 0; None where several workers failed on the attempt.

    Args:
      problems: their `reference` is the gold answer.
      attempts: as many.
      done: called with each number of further attempts graded.
    """
    return self.grade_answers(
      [problem.reference for problem in problems],
      [final_answer.final_answer(attempt.text) for attempt in attempts],
      done,
    )

  def grade_answers(
    self,
    golds: Sequence[str],
    preds: Sequence[str | None],
    done: Callable[[int], None] | None = None,
  ) -> list[types.Verdict]:
    """One verdict for each (gold, pred): answers already taken from attempts.

    Args:
      golds: reference answers.
      preds: as many answers; None where an attempt states none.
      done: called with each number of further answers graded.
    """
    verdicts: list[types.Verdict | None] = [None] * len(preds)
    # By pair, not by index: a collapsed policy gives the same answer often.
    asked: dict[tuple[str, str], list[int]] = {}
    for index, (gold, pred) in enumerate(zip(golds, preds, strict=True)):
      verdicts[index] = _grade_at_once(gold, pred)
      if verdicts[index] is None:
        asked.setdefault((gold, pred), []).append(index)
    for pair in [pair for pair in asked if pair in self._cache]:
      label, reason = self._cache[pair]
      for index in asked.pop(pair):
        verdicts[index] = _verdict(label, reason)
    if done:
      done(len(preds) - sum(map(len, asked.values())))
    pairs = list(asked)
    answered = self.pool.run(
      [{'gold': gold, 'pred': pred} for gold, pred in pairs],
      (lambda job: done(len(asked[pairs[job]]))) if done else None,
    )
    if len(self._cache) > _LONGEST_CACHE:
      self._cache.clear()
    for pair, (answer, seconds) in zip(pairs, answered):
      if isinstance(answer, worker_pool.Failure):
        # Not cached: the machine failed, and may answer the next time.
        verdict = types.Verdict(answer.label, None, seconds, answer.reason)
      else:
        self._cache[pair] = answer['label'], answer['reason']
        verdict = _verdict(answer['label'], answer['reason'], seconds)
      for index in asked[pair]:
        verdicts[index] = verdict
    return verdicts

  def interrupt(self) -> None:
    """Ends a `grade` that is waiting; see `Pool.interrupt`."""
    self.pool.interrupt()

  def close(self) -> None:
    """Ends the workers."""
    self.pool.close()


def _grade_at_once(gold: str, pred: str | None) -> types.Verdict | None:
  """The verdict that needs no algebra, None where some is needed."""
  if pred is None:
    return _verdict('unparseable', 'the attempt states no final answer')
  if not pred:
    return _verdict('unparseable', 'the final answer is empty')
  if len(pred) > LONGEST_ANSWER:
    reason = f'an answer of {len(pred)} characters'
    return _verdict('unparseable', reason)
  if pred == gold.strip():
    return _verdict('correct', '')
  return None


def _verdict(
  label: types.VerdictLabel, reason: str, seconds: float = 0.0
) -> types.Verdict:
  return types.Verdict(label, float(label == 'correct'), seconds, reason)


def drop_unreadable(
  problems: Sequence[types.Problem], grader: MathGrader
) -> list[types.Problem]:
  """`problems` without those whose reference cannot be read, logged by id.

  An attempt at such a problem could only be correct by repeating the reference
  letter by letter.
  """
  unsure = sorted(
    {p.reference for p in problems if not quantities.exact_number(p.reference)}
  )
  answered = grader.pool.run([{'gold': reference} for reference in unsure])
  unreadable = {
    reference
    for reference, (answer, _) in zip(unsure, answered)
    if isinstance(answer, worker_pool.Failure) or answer['label'] != 'correct'
  }
  left_out = [p for p in problems if p.reference in unreadable]
  if left_out:
    _LOG.warning(
      'left out %d problems whose reference cannot be read: %s',
      len(left_out),
      ', '.join(f'{p.id} ({p.reference!r})' for p in left_out),
    )
  return [p for p in problems if p.reference not in unreadable]
