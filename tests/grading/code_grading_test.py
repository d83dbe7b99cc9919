"""Grading programs: canonical solutions, real attempts, honest edge cases."""

import contextlib
import json

import pytest

from score_jax import types
from score_jax.grading import code_grading, code_testing
from score_jax.grading.sandbox import probe
from score_jax.tasks import code_problems
from tests.support import shared_data

# Attempts graded unlike upstream's label, and why.
LABEL_DIFFERENCES = {
  'HumanEval/38': 'upstream ran it without the prompt, whose helper it needs',
  'HumanEval/50': 'upstream ran it without the prompt, whose helper it needs',
  'MBPP/56': "upstream's harness overwrote the tested function, named check",
  'MBPP/341': 'a tuple of a set: its order is open, and came out either way',
  'MBPP/436': 'upstream rewrote the tests: `== -1,-6` means a message there',
}


@pytest.fixture(scope='module')
def grader():
  with contextlib.closing(code_grading.CodeGrader(workers=2)) as held:
    yield held


def mbpp(**options) -> list[types.Problem]:
  data_dir = str(shared_data.path('mbpp').parent)
  splits = code_problems.load_mbpp(data_dir, **options)
  return [problem for split in splits.values() for problem in split]


def humaneval() -> list[types.Problem]:
  return code_problems.load_humaneval(str(shared_data.path('humaneval').parent))


def assert_references_pass(grader, problems):
  verdicts = grader.grade(
    problems,
    [types.Attempt(problem.reference) for problem in problems],
    extract=False,
  )
  assert [
    (problem.id, verdict)
    for problem, verdict in zip(problems, verdicts)
    if verdict.label != 'correct'
  ] == []


def test_canonical_solutions_of_humaneval_pass_in_part(grader):
  problems = humaneval()
  assert len(problems) == 164
  assert_references_pass(grader, problems[::8])


@pytest.mark.slow
def test_all_canonical_solutions_of_humaneval_pass(grader):
  assert_references_pass(grader, humaneval())


# Builtin subclasses, classes and types as values, a builtin's name, a slow one.
HARD = (40, 88, 653, 902, 367, 533, 601, 927, 123, 126, 596, 737, 787, 794)


def test_canonical_solutions_of_mbpp_pass_in_part(grader):
  hard = {f'MBPP/{number}' for number in HARD}
  problems = mbpp()
  part = [p for n, p in enumerate(problems) if p.id in hard or n % 40 == 0]
  assert_references_pass(grader, part)


@pytest.mark.slow
def test_all_canonical_solutions_of_mbpp_pass(grader):
  problems = mbpp()
  assert len(problems) == 974
  assert_references_pass(grader, problems)


@pytest.mark.slow
def test_all_canonical_solutions_of_sanitized_mbpp_pass(grader):
  problems = mbpp(sanitized=True)
  assert len(problems) == 427
  assert_references_pass(grader, problems)


def check_attempts(grader, rows):
  known = {problem.id: problem for problem in [*mbpp(), *humaneval()]}
  verdicts = grader.grade(
    [known[row['task_id']] for row in rows],
    [types.Attempt(row['solution']) for row in rows],
  )
  differ = {
    row['task_id']
    for row, verdict in zip(rows, verdicts)
    if (verdict.score == 1) != row['is_solved']
  }
  assert differ <= set(LABEL_DIFFERENCES)


def attempt_rows(name: str) -> list[dict]:
  path = shared_data.path(f'code_attempts/{name}')
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_attempts_are_graded_as_labelled_in_part(grader):
  rows = attempt_rows('seed_humaneval_gpt-3.5-turbo-0613.jsonl')
  rows += attempt_rows('seed_mbpp_codellama.jsonl')
  part = [
    row
    for n, row in enumerate(rows)
    if row['task_id'] in LABEL_DIFFERENCES or n % 16 == 0
  ]
  check_attempts(grader, part)


@pytest.mark.slow
def test_attempts_are_graded_as_labelled(grader):
  check_attempts(
    grader, attempt_rows('seed_humaneval_gpt-3.5-turbo-0613.jsonl')
  )
  check_attempts(grader, attempt_rows('seed_mbpp_codellama.jsonl'))


def problem(*tests: str, **columns) -> types.Problem:
  columns = {'tests': list(tests), 'entry_point': 'f', **columns}
  reference = columns.pop('reference', '')
  return types.Problem(str(tests), 'own', '', reference, columns)


@pytest.mark.parametrize(
  ('program', 'test', 'label'),
  [
    ('def f(): return 2.0', 'assert f() == 2', 'correct'),
    ('def f(): return True', 'assert f() == 1', 'correct'),
    ('def f(): return (1, 2)', 'assert f() == [1, 2]', 'wrong'),
    ('def f(): return 0.1 + 0.2', 'assert abs(f() - 0.3) < 1e-9', 'correct'),
    ('def f(): return float("nan")', 'assert f() != f()', 'correct'),
    ('K = 3\ndef f(): return K', 'assert f() == 3', 'correct'),
    ('def f(x): x.append(1)', 'x = []\nf(x)\nassert x == [1]', 'correct'),
    ('def f(x): x[1] = 2', 'x = {}\nf(x)\nassert x == {1: 2}', 'correct'),
    ('def f(x): x = x + [1]', 'x = []\nf(x)\nassert x == [1]', 'wrong'),
    (
      'from collections import Counter\ndef f(x): return Counter(x)',
      "assert f('aab') == {'a': 2, 'b': 1}",
      'correct',
    ),
    (
      'from collections import namedtuple\nP = namedtuple("P", "x y")\n'
      'def f(): return P(1, 2)',
      'assert f() == (1, 2)',
      'correct',
    ),
    ('def f(): return map(str, [1])', "assert list(f()) == ['1']", 'correct'),
    ('def f(): yield from (1, 2)', 'assert list(f()) == [1, 2]', 'correct'),
    ('def f(): return {1}.union({2})', 'assert f() == {1, 2}', 'correct'),
    ('def f(): return 10 ** 5000', 'assert f() == 10 ** 5000', 'correct'),
    ('def f(): return b"\\xff"', 'assert f() == b"\\xff"', 'correct'),
    ('def f(): return "\\ud800"', 'assert f() == "\\ud800"', 'correct'),
    ('def f(): return range(3)', 'assert f() == range(3)', 'correct'),
    ('def f(): return {1: 2}.keys()', 'assert f() == {1}', 'correct'),
    ('def f(): return int', 'assert f() is int', 'correct'),
    ('def f(x, *, y): return x - y', 'assert f(3, y=1) == 2', 'correct'),
    ('f = lambda x: x', 'assert f(1) == 1', 'correct'),
    (
      'def f(x): raise ValueError("no")',
      'try:\n  f(1)\nexcept ValueError:\n  done = True\nassert done',
      'correct',
    ),
    (
      'class A:\n  def __init__(self, x): self.x = x\ndef f(a): return a.x',
      'assert f(A(3)) == 3',
      'correct',
    ),
    ('import re\ndef f(): return re.match("a", "a")', 'assert f()', 'correct'),
    ('def f(): return None', 'assert f() == None', 'correct'),
    ('def f(): return object()', 'assert f() == None', 'wrong'),
    ('def f(): return object()', 'assert f() != 3', 'wrong'),
    ('def g(): return 1', 'assert f() == 1', 'wrong'),
    ('def f(: return 1', 'assert f() == 1', 'wrong'),
    ('raise AssertionError', 'assert f() == 1', 'wrong'),
    ('def f(): assert False', 'assert f() == 1', 'wrong'),
  ],
)
def test_honest_programs(grader, program, test, label):
  [verdict] = grader.grade(
    [problem(test)], [types.Attempt(program)], extract=False
  )
  assert verdict.label == label, verdict


def test_time_follows_a_slow_reference():
  slow = 'def f():\n  import time\n  end = time.process_time() + 1.2\n'
  slow += '  while time.process_time() < end: pass\n  return 1\n'
  task = problem('assert f() == 1', reference=slow)
  with contextlib.closing(
    code_grading.CodeGrader(workers=1, cpu_seconds=1)
  ) as grader:
    [verdict] = grader.grade([task], [types.Attempt(slow)], extract=False)
  assert verdict.label == 'correct'


def test_text_without_a_program_is_unparseable(grader):
  [verdict] = grader.grade(
    [problem('assert f()')], [types.Attempt('I give up.')]
  )
  assert (verdict.label, verdict.score) == ('unparseable', 0.0)


def test_a_sandbox_that_disappears_leaves_attempts_ungraded():
  grader = code_grading.CodeGrader(workers=1)
  grader.pool.close()
  broken = {'kind': grader.sandbox.kind, 'python': '/usr/bin/no-such-python'}
  grader.pool = code_grading.worker_pool.Pool('code', broken, workers=1)
  try:
    program = types.Attempt('def f(): return 1')
    [verdict] = grader.grade(
      [problem('assert f() == 1')], [program], extract=False
    )
  finally:
    grader.close()
  assert verdict.score is None
  assert verdict.label == 'crash'


def test_without_a_sandbox_programs_are_rejected(monkeypatch):
  monkeypatch.setattr(
    probe, 'probe', lambda sandbox: [probe.Line('reads no file', False, 'leak')]
  )
  probe.choose.cache_clear()
  try:
    with pytest.raises(probe.NoSandboxError, match='leak'):
      code_grading.CodeGrader(workers=1)
  finally:
    probe.choose.cache_clear()


@pytest.mark.parametrize(
  ('test', 'names'),
  [
    ('assert f(1) == 2', ['f']),
    ('assert set(f(x)) == {g}', ['f', 'g', 'x']),
    ('import math\nassert math.isclose(f(1), 2)', ['f']),
    ('def check(c):\n  for i in c(1): assert i\ncheck(f)', ['f']),
    ('assert [i for i in f()] == [1]', ['f']),
  ],
)
def test_free_names(test, names):
  assert code_testing.free_names(test) == names


def test_entry_point():
  assert code_testing.entry_point(['assert set(f(1)) == {1}']) == 'f'
  assert code_testing.entry_point(['assert sum(1, 2) == 3']) == 'sum'
  with pytest.raises(ValueError, match='no function'):
    code_testing.entry_point(['assert True'])
