"""Grading programs: extraction and tests in workers, programs in sandboxes."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

from score_jax import types
from score_jax.grading import code_testing, extraction, worker_pool
from score_jax.grading.sandbox import launch, probe, session

_LONGEST_REFERENCE_SECONDS = 60.0
_REFERENCE_FACTOR = 3.0


def make_handler(kind: str, python: str) -> Callable[[Mapping], dict[str, Any]]:
  """The function that a worker answers jobs with: program, tests to a label."""
  sandbox = launch.Sandbox(kind, python)

  def handle(job: Mapping[str, Any]) -> dict[str, Any]:
    suite = code_testing.Suite(**job['suite'])
    source = job['text']
    if job['extract']:
      source = extraction.extract(source, suite.entry_point, job['prompt'])
    if source is None:
      return {'label': 'unparseable', 'reason': 'no program in the attempt'}
    limits = launch.Limits(
      cpu_seconds=job['cpu_seconds'], wall_seconds=job['wall_seconds']
    )
    try:
      outcomes = [
        code_testing.run(sandbox, limits, source, suite)
        for _ in range(job['repeats'])
      ]
    except session.SandboxFailedError:
      # Once more before the job counts as failed: a machine that has no process
      # to spare for a moment.
      outcomes = [code_testing.run(sandbox, limits, source, suite)]
    return _merge(outcomes)

  return handle


def _merge(outcomes: Sequence[code_testing.Outcome]) -> dict[str, Any]:
  """One answer from all runs; a program whose label varies is wrong."""
  first = outcomes[0]
  answer = dataclasses.asdict(first)
  if any(outcome.label != first.label for outcome in outcomes):
    labels = ', '.join(outcome.label for outcome in outcomes)
    answer |= {'label': 'wrong', 'reason': f'flaky: {labels}'}
  return answer


class CodeGrader:
  """Grades attempts by the tests of their problem.

  A problem's columns hold `tests` (pieces of test code) and, where there are
  any, `entry_point`, `prelude`, `setup`, `helpers` (see `code_testing.Suite`),
  `prompt_code` (code that an attempt may continue) and `visible_tests` (the
  number of tests, from the first, that the prompt shows).
  """

  def __init__(
    self,
    *,
    sandbox: str = 'auto',
    workers: int | None = None,
    cpu_seconds: float = 10.0,
    repeats: int = 1,
  ):
    """Probes the sandbox and starts the workers.

    Args:
      sandbox: 'auto', 'bwrap', 'landlock'; 'none' isolates nothing.
      workers: number of processes; None for one less than there are cores.
      cpu_seconds: CPU time of a program, or three times its reference's where
        that is longer.
      repeats: runs of each program; one whose label varies is wrong.

    Raises:
      NoSandboxError: no sandbox holds on this machine.
    """
    self.sandbox = probe.choose(sandbox)
    self._cpu_seconds = cpu_seconds
    self._repeats = repeats
    self._reference_seconds: dict[tuple[str, str], float] = {}
    self.pool = worker_pool.Pool(
      'code',
      dataclasses.asdict(self.sandbox),
      workers=workers,
      cpu_seconds=30.0,
    )

  def grade(
    self,
    problems: Sequence[types.Problem],
    attempts: Sequence[types.Attempt],
    done: Callable[[int], None] | None = None,
    *,
    extract: bool = True,
  ) -> list[types.Verdict]:
    """One verdict for each (problem, attempt), in order.

    Score 1 where all tests pass, else 0; None where the sandbox or several
    workers failed.

    Args:
      problems: with the columns above.
      attempts: as many.
      done: called with 1 for each attempt graded.
      extract: whether attempts are texts that hold a program; False where they
        are programs.
    """
    jobs = [
      self._job(problem, attempt.text, extract)
      for problem, attempt in zip(problems, attempts, strict=True)
    ]
    answers = self.pool.run(jobs, (lambda _: done(1)) if done else None)
    # A reference may need more time than the limit: then its attempts may, too.
    # References are only timed where a program ran out of time.
    slow = [
      index
      for index, (answer, _) in enumerate(answers)
      if _label(answer) == 'timeout' and problems[index].reference
    ]
    self._time_references([problems[index] for index in slow])
    again = [
      index
      for index in slow
      if self._limit(problems[index]) > jobs[index]['cpu_seconds']
    ]
    redone = self.pool.run(
      [self._job(problems[i], attempts[i].text, extract) for i in again]
    )
    for index, answer in zip(again, redone):
      answers[index] = answer
    return [
      _verdict(answer, seconds, problem)
      for (answer, seconds), problem in zip(answers, problems)
    ]

  def interrupt(self) -> None:
    """Ends a `grade` that is waiting; see `Pool.interrupt`."""
    self.pool.interrupt()

  def close(self) -> None:
    """Ends the workers."""
    self.pool.close()

  def _limit(self, problem: types.Problem) -> float:
    key = (problem.task, problem.id)
    measured = self._reference_seconds.get(key, 0.0)
    return max(self._cpu_seconds, _REFERENCE_FACTOR * measured)

  def _time_references(self, problems: Sequence[types.Problem]) -> None:
    """Measures references of problems on which a program ran out of time."""
    unknown = {(p.task, p.id): p for p in problems}
    for key in self._reference_seconds:
      unknown.pop(key, None)
    jobs = [
      self._job(problem, problem.reference, extract=False)
      | {'cpu_seconds': _LONGEST_REFERENCE_SECONDS, 'repeats': 1}
      for problem in unknown.values()
    ]
    for job in jobs:
      _set_deadlines(job)
    for key, (answer, _) in zip(unknown, self.pool.run(jobs)):
      known = not isinstance(answer, worker_pool.Failure)
      seconds = answer.get('cpu_seconds', 0.0) if known else 0.0
      self._reference_seconds[key] = seconds

  def _job(
    self, problem: types.Problem, text: str, extract: bool
  ) -> dict[str, Any]:
    columns = problem.columns
    tests = list(columns['tests'])
    suite = {
      'tests': tests,
      'entry_point': columns.get('entry_point')
      or code_testing.entry_point(tests),
      'prelude': columns.get('prelude', ''),
      'setup': columns.get('setup', ''),
      'helpers': columns.get('helpers', ''),
    }
    job = {
      'text': text,
      'suite': suite,
      'extract': extract,
      'prompt': columns.get('prompt_code', ''),
      'cpu_seconds': self._limit(problem),
      'repeats': self._repeats,
    }
    return _set_deadlines(job)


def _set_deadlines(job: dict[str, Any]) -> dict[str, Any]:
  """Sets the limits of wall time: those of CPU time with room for load."""
  job['wall_seconds'] = 10.0 + 10.0 * job['cpu_seconds']
  job['deadline'] = job['repeats'] * job['wall_seconds'] + 60.0
  return job


def _label(answer: Any) -> str:
  failed = isinstance(answer, worker_pool.Failure)
  return 'failure' if failed else answer['label']


def _verdict(
  answer: Any, seconds: float, problem: types.Problem
) -> types.Verdict:
  if isinstance(answer, worker_pool.Failure):
    return types.Verdict(answer.label, None, seconds, answer.reason)
  label, passed = answer['label'], answer.get('passed', ())
  reason = answer.get('reason', '')
  visible = problem.columns.get('visible_tests')
  total = len(problem.columns['tests'])
  if visible is not None and 0 < visible < total:
    shown, hidden = sum(passed[:visible]), sum(passed[visible:])
    counts = f'visible {shown}/{visible}, hidden {hidden}/{total - visible}'
    reason = f'{counts}; {reason}' if reason else counts
  return types.Verdict(label, float(label == 'correct'), seconds, reason)
