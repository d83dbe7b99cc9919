"""Graders that can neither fail nor take long, and so need no workers."""

from collections.abc import Callable, Sequence
import time

from score_jax import types


class DirectGrader:
  """Judges in this process by a function of reference and attempt."""

  def __init__(
    self, grade_answer: Callable[[str, str], tuple[types.VerdictLabel, str]]
  ):
    """Takes (reference, attempt's text) -> (label, reason)."""
    self._grade_answer = grade_answer

  def grade(
    self,
    problems: Sequence[types.Problem],
    attempts: Sequence[types.Attempt],
  ) -> list[types.Verdict]:
    """One verdict for each (problem, attempt); score 1 or 0."""
    verdicts = []
    for problem, attempt in zip(problems, attempts, strict=True):
      start = time.perf_counter()
      label, reason = self._grade_answer(problem.reference, attempt.text)
      verdicts.append(
        types.Verdict(
          label=label,
          score=float(label == 'correct'),
          seconds=time.perf_counter() - start,
          reason=reason,
        )
      )
    return verdicts

  def close(self) -> None:
    """Nothing to end."""
