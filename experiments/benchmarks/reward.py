"""Gradings per second, and how long a batch with pathological answers takes."""

from collections.abc import Iterator
import dataclasses
import json
import os
import pathlib
import platform
import random
import time
from typing import Any, Literal

from experiments.config import command_line
from score_jax import types
from score_jax.grading import code_grading, math_grading, worker_pool

PATHOLOGICAL_MATH = (
  '9^{9^{9}}',
  '99999999!',
  '(x+1)^{100000}',
  r'\frac{1}{' * 20 + '2' + '}' * 20,
  '1' + '+x' * 450,
  r'\log' * 200 + ' 3',
  '[0,1)' + r'\cup[0,1)' * 19,
  r'\sqrt{' * 24 + '2' + '}' * 24,
)
PATHOLOGICAL_PROGRAMS = (
  'def f(x):\n  while True: pass\n',
  'import time\ndef f(x): time.sleep(9999)\n',
  'import os\ndef f(x):\n  while True: os.fork()\n',
  'def f(x):\n  l = [0]\n  while True: l = l + l\n',
  "def f(x):\n  while True: print('x' * 10**6)\n",
)
# Wall time: of a math worker, and of a program with 2 s of CPU time.
_MATH_DEADLINE, _CODE_DEADLINE = 90.0, 30.0
_TESTS = ['assert f(2) == 4', 'assert f(3) == 9', 'assert f(-1) == 1']
_PROGRAM = 'import math\ndef f(x):\n  # {n}\n  return math.prod([x, x])\n'


@dataclasses.dataclass(frozen=True)
class Settings:
  """Measures graders."""

  kinds: tuple[Literal['math', 'code'], ...] = ('math', 'code')
  """Graders to measure."""
  workers: tuple[int, ...] = (1, 2)
  """Numbers of grader processes to try."""
  math_jobs: int = 1000
  """Distinct answers that need algebra or rules."""
  code_jobs: int = 100
  """Programs with three tests each."""
  batch: int = 1024
  """Answers in the mixed batches; 5 % are pathological."""
  sandbox: str = 'auto'
  """Sandbox of programs."""
  output: str | None = None
  """File for the results as JSON."""


def main(arguments: list[str]) -> int:
  """Measures, prints a table, returns the exit code."""
  settings = command_line.parse(
    Settings,
    arguments,
    program='experiments.benchmark reward',
    document=__doc__,
  )
  machine = f'{os.cpu_count()} cores, {platform.system()} {platform.machine()}'
  load = os.getloadavg()[0]
  print(f'{machine}, Python {platform.python_version()}, load {load:.1f}')
  results = []
  for workers in settings.workers:
    for result in _measure(settings, workers):
      results.append({'workers': workers, **result})
      print(_line(results[-1]), flush=True)
  if settings.output:
    pathlib.Path(settings.output).write_text(json.dumps(results, indent=2))
  return 0


def _measure(settings: Settings, workers: int) -> Iterator[dict[str, Any]]:
  if 'math' in settings.kinds:
    yield from _measure_math(settings, workers)
  if 'code' in settings.kinds:
    yield from _measure_code(settings, workers)


def _measure_math(settings: Settings, workers: int) -> Iterator[dict[str, Any]]:
  grader = math_grading.MathGrader(workers=workers, deadline=_MATH_DEADLINE)

  def grade(pairs):
    return grader.grade_answers(*map(list, zip(*pairs)))

  grade([('x+1', f'{n}+x') for n in range(workers)])  # warm
  honest = [math_pair(n) for n in range(settings.math_jobs)]
  mixed = mixed_math(settings.batch)
  # A worker that passes its deadline is replaced, and the answer tried again.
  yield from _measure_two(
    'math', grade, grader.pool, workers, honest, mixed, 2 * _MATH_DEADLINE
  )
  grader.close()


def _measure_code(settings: Settings, workers: int) -> Iterator[dict[str, Any]]:
  grader = code_grading.CodeGrader(
    sandbox=settings.sandbox, workers=workers, cpu_seconds=2.0
  )
  problem = types.Problem(
    'square', 'benchmark', '', '', {'tests': _TESTS, 'entry_point': 'f'}
  )

  def grade(programs):
    attempts = [types.Attempt(program) for program in programs]
    return grader.grade([problem] * len(attempts), attempts, extract=False)

  grade([_PROGRAM] * workers)  # warm
  honest = programs_of(settings.code_jobs, 0)
  mixed = programs_of(settings.batch, settings.batch // 20)
  yield from _measure_two(
    'code', grade, grader.pool, workers, honest, mixed, _CODE_DEADLINE
  )
  grader.close()


def _measure_two(name, grade, pool, workers, honest, mixed, deadline):
  """Measures a batch of honest answers, then one with pathological ones."""
  alone = _timed(name, lambda: grade(honest), pool)
  yield alone
  result = _timed(f'{name}, 5 % pathological', lambda: grade(mixed), pool)
  bound = _bound(len(mixed), workers, alone, deadline)
  yield result | {'bound': bound}


def _bound(batch: int, workers: int, alone: dict, deadline: float) -> float:
  """Seconds that a mixed batch takes at most.

  Each pathological answer occupies a worker until its deadline; the others are
  graded at the rate that was measured without them.
  """
  bad = batch // 20
  rate = max(alone['per_second'], 1e-3)
  return round((bad / workers + 1) * deadline + (batch - bad) / rate, 1)


def _cpu_seconds(pids: list[int]) -> float:
  """CPU time of processes and of their children that have ended."""
  ticks = 0
  for pid in pids:
    stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
    ticks += sum(map(int, stat.rpartition(')')[2].split()[11:15]))
  return ticks / os.sysconf('SC_CLK_TCK')


def _timed(name: str, grade, pool: worker_pool.Pool) -> dict[str, Any]:
  used = _cpu_seconds(pool.pids)
  start = time.monotonic()
  verdicts = grade()
  seconds = time.monotonic() - start
  labels: dict[str, int] = {}
  for verdict in verdicts:
    label = verdict.label if verdict.score is not None else 'ungraded'
    labels[label] = labels.get(label, 0) + 1
  return {
    'name': name,
    'jobs': len(verdicts),
    'seconds': round(seconds, 2),
    'per_second': round(len(verdicts) / seconds, 1),
    'cpu_ms': round(1000 * (_cpu_seconds(pool.pids) - used) / len(verdicts), 1),
    'slowest': round(max(verdict.seconds for verdict in verdicts), 2),
    'labels': labels,
  }


def math_pair(n: int) -> tuple[str, str]:
  """(gold, pred) number n: fractions, polynomials, roots, sets, intervals."""
  kinds = (
    (f'\\frac{{{n + 1}}}{{7}}', f'{n + 1}/7'),
    (f'(x+{n})^2', f'x^2+{2 * n}x+{n * n}'),
    (f'{n}\\sqrt{{2}}', f'\\sqrt{{{2 * n * n}}}'),
    (f'{n}, {n + 1}', f'\\{{{n + 1}, {n}\\}}'),
    (f'({n}, \\infty)', f'x > {n}'),
    (f'{n}', f'{n} \\text{{ cm}}'),
    (f'{n}\\pi', f'{n + 1}\\pi'),
    (f'\\text{{case {n}}}', f'{n}'),
  )
  return kinds[n % len(kinds)]


def mixed_math(count: int) -> list[tuple[str, str]]:
  """Pairs, 5 % of them pathological, in a fixed random order."""
  bad = count // 20
  pairs = [math_pair(n + 100_000) for n in range(count - bad)]
  # Distinct, so that none is answered from the cache.
  pairs += [
    ('x+1', PATHOLOGICAL_MATH[n % len(PATHOLOGICAL_MATH)] + f'+{n}')
    for n in range(bad)
  ]
  random.Random(0).shuffle(pairs)
  return pairs


def programs_of(count: int, pathological: int) -> list[str]:
  """Programs, some of them pathological, in a fixed random order."""
  programs = [_PROGRAM.format(n=n) for n in range(count - pathological)]
  programs += [
    PATHOLOGICAL_PROGRAMS[n % len(PATHOLOGICAL_PROGRAMS)]
    for n in range(pathological)
  ]
  random.Random(0).shuffle(programs)
  return programs


def _line(result: dict[str, Any]) -> str:
  bound = f', bound {result["bound"]} s' if 'bound' in result else ''
  labels = ', '.join(f'{n} {label}' for label, n in result['labels'].items())
  return (
    f'{result["workers"]} workers  {result["name"]:24s} '
    f'{result["per_second"]:8.1f}/s  ({result["jobs"]} in '
    f'{result["seconds"]} s, {result["cpu_ms"]} ms of CPU each, '
    f'slowest {result["slowest"]} s{bound}; {labels})'
  )
