"""Every kind of hostile program is graded right, and leaves nothing behind."""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import threading
import time

import pytest

from score_jax import types
from score_jax.grading import code_grading
from score_jax.grading.sandbox import launch, probe, session
from tests.support import hostile_programs, shared_data

PROBLEM = types.Problem(
  id='square',
  task='square',
  question='Square a number.',
  reference='',
  columns={
    'tests': ['assert solve(3) == 9', 'assert solve(5) == 25'],
    'entry_point': 'solve',
    'visible_tests': 1,
  },
)
# Kinds of the table that are not about programs, and where they are tested.
ELSEWHERE = {
  'unicode_bidi': 'tests/grading/extraction_test.py',
  'math_grader_hang': 'tests/grading/math_grading_test.py',
  'math_many_boxes': 'tests/grading/math_grading_test.py',
  'math_eval_inject': 'tests/grading/math_grading_test.py',
}


def holds(kind: str) -> bool:
  """Whether this machine can run a sandbox of this kind."""
  sandbox = launch.Sandbox(kind, launch.interpreters()[0])
  return all(line.held for line in probe.probe(sandbox))


@pytest.fixture(scope='module', params=['bwrap', 'landlock'])
def grader(request):
  if not holds(request.param):
    pytest.skip(f'the {request.param} sandbox does not hold on this machine')
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('SCORE_JAX_TEST_TOKEN', 'canary-secret')
    held = code_grading.CodeGrader(
      sandbox=request.param, workers=1, cpu_seconds=1.0
    )
    yield held
    held.close()


def grade(grader, sources) -> list[types.Verdict]:
  return grader.grade(
    [PROBLEM] * len(sources),
    [types.Attempt(source) for source in sources],
    extract=False,
  )


@pytest.fixture
def host(tmp_path):
  """A canary file and a listening port; checked afterwards."""
  tmp_path.chmod(0o777)
  canary = tmp_path / 'canary'
  canary.write_text('canary alive')
  canary.chmod(0o666)
  with socket.create_server(('127.0.0.1', 0)) as server:
    server.settimeout(0.01)
    yield str(canary), server.getsockname()[1]
    with pytest.raises(TimeoutError):
      server.accept()
  assert canary.read_text() == 'canary alive'
  assert sorted(p.name for p in tmp_path.iterdir()) == ['canary']
  assert 'LEAKED' not in os.environ


def processes_below(pids: list[int]) -> list[str]:
  """Processes and zombies below the graders, as 'pid state name'."""
  parents = {}
  names = {}
  for process in pathlib.Path('/proc').glob('[0-9]*'):
    try:
      head, _, rest = (process / 'stat').read_text().rpartition(')')
    except OSError:
      continue
    state, parent = rest.split()[:2]
    parents[int(process.name)] = int(parent)
    names[int(process.name)] = f'{process.name} {state} {head}'
  below = [pid for pid, parent in parents.items() if parent in pids]
  return [names[pid] for pid in below] + (
    processes_below(below) if below else []
  )


def stray_sandboxes() -> list[str]:
  """Sandboxed interpreters that no grader is the parent of any more."""
  strays = []
  for process in pathlib.Path('/proc').glob('[0-9]*'):
    try:
      arguments = (process / 'cmdline').read_bytes()
      name = (process / 'comm').read_text()
      parent = (process / 'stat').read_text().rpartition(')')[2].split()[1]
    except OSError:
      continue
    # probe_test, which may run beside this file, lets its probe escape.
    is_probe = name.startswith('probe')
    if launch._BOOT.encode() in arguments and parent == '1' and not is_probe:
      strays.append(process.name)
  return strays


def assert_nothing_left(pids: list[int]) -> None:
  for _ in range(50):
    left = processes_below(pids) + stray_sandboxes()
    if not left:
      return
    time.sleep(0.1)
  raise AssertionError(f'left behind: {left}')


@pytest.mark.parametrize('kind', hostile_programs.PROGRAMS)
def test_hostile_program(grader, host, kind):
  programs = [
    (what, hostile_programs.fill(source, *host), labels)
    for what, source, labels in hostile_programs.PROGRAMS[kind]
  ]
  # The grader survives, and grades the next program right.
  programs.append(('right', hostile_programs.RIGHT, ('correct',)))
  workers = grader.pool.pids
  verdicts = grade(grader, [source for _, source, _ in programs])
  for (what, _, labels), verdict in zip(programs, verdicts):
    assert verdict.label in labels, (what, verdict)
    assert verdict.score == (verdict.label == 'correct'), (what, verdict)
    assert verdict.seconds < 40, (what, verdict)
  assert grader.pool.pids == workers
  assert_nothing_left(workers)


def test_every_kind_of_the_table_is_tested():
  rows = shared_data.path('hostile/hostile_categories.jsonl').read_text()
  kinds = {json.loads(row)['id'] for row in rows.splitlines()}
  assert len(kinds) == 41
  assert kinds == set(hostile_programs.PROGRAMS) | set(ELSEWHERE)


def test_hard_coded_answers_show_in_two_numbers(grader):
  source = hostile_programs.PROGRAMS['hardcode'][0][1]
  [verdict] = grade(grader, [hostile_programs.fill(source, '', 0)])
  assert verdict.reason.startswith('visible 1/1, hidden 0/1')


def test_same_verdict_every_time(grader):
  source = hostile_programs.PROGRAMS['random_seeded'][0][1]
  order = 'def solve(x): return x * x + (list({"a", "b", "c"})[0] == "a")\n'
  for program in (source, order):
    verdicts = grade(grader, [program] * 4)
    assert len({verdict.label for verdict in verdicts}) == 1


def test_a_program_that_varies_is_not_rewarded():
  source = (
    'import os\ntoss = os.urandom(1)[0] % 2\n'
    'def solve(x): return x * x + toss\n'
  )
  with contextlib.closing(
    code_grading.CodeGrader(workers=1, repeats=12)
  ) as grader:
    [verdict] = grade(grader, [source])
  # All twelve runs agree once in 2,048 times.
  assert verdict.label == 'wrong'
  assert 'flaky' in verdict.reason


def mixed_batch(count: int, host, seed: int):
  """Programs in random order, each with the labels that are right."""
  programs = hostile_programs.all_programs(*host)
  cheap = [entry for entry in programs if 'timeout' not in entry[2]]
  slow = [entry for entry in programs if 'timeout' in entry[2]]
  rng = random.Random(seed)
  half = count // 2
  entries = [('honest', hostile_programs.RIGHT, ('correct',))] * half
  entries += rng.sample(slow, min(len(slow), max(3, count // 40)))
  entries += rng.choices(cheap, k=count - len(entries))
  rng.shuffle(entries)
  return entries


def check_mixed_batch(host, count: int):
  with contextlib.closing(
    code_grading.CodeGrader(workers=2, cpu_seconds=1.0)
  ) as grader:
    entries = mixed_batch(count, host, seed=1)
    verdicts = grade(grader, [source for _, source, _ in entries])
    for (name, _, labels), verdict in zip(entries, verdicts):
      assert verdict.label in labels, (name, verdict)
    assert_nothing_left(grader.pool.pids)


def test_mixed_batch_leaves_nothing_behind(host):
  check_mixed_batch(host, 40)


@pytest.mark.slow
def test_large_mixed_batch_leaves_nothing_behind(host):
  check_mixed_batch(host, 1000)


def test_killed_graders_change_no_verdict_and_leave_no_program(grader):
  rng = random.Random(0)
  right = 'import time\ndef solve(x):\n  time.sleep(0.2)\n  return x * x\n'
  wrong = 'def solve(x): return 0\n'
  sources = [right if n % 3 else wrong for n in range(9)]
  pids = set(grader.pool.pids)
  for _ in range(2):
    kill = threading.Timer(
      rng.uniform(0.2, 1.5),
      lambda: os.kill(grader.pool.pids[0], signal.SIGKILL),
    )
    kill.start()
    verdicts = grade(grader, sources)
    kill.join()
    pids |= set(grader.pool.pids)
    assert [verdict.label for verdict in verdicts] == [
      'correct' if n % 3 else 'wrong' for n in range(9)
    ]
  assert_nothing_left(list(pids))


def test_cpu_time_is_limited_for_all_processes_together():
  if not holds('bwrap'):
    pytest.skip('the bwrap sandbox does not hold on this machine')
  # Four at once, none of which reaches the limit of a second alone.
  source = (
    'import os, time\ndef solve(x):\n'
    '  for _ in range(3):\n    if os.fork() == 0: break\n'
    '  while time.process_time() < 0.8: pass\n'
    '  while True: time.sleep(0.01)\n'
  )
  sandbox = launch.Sandbox('bwrap', launch.interpreters()[0])
  limits = launch.Limits(cpu_seconds=1, wall_seconds=600, idle_seconds=60)
  with session.Session(sandbox, limits) as program:
    program.request('load', source=source)
    handle = program.request('get', name='solve')['value'][1]
    with pytest.raises(session.ProgramTimeoutError, match='CPU time'):
      program.request('call', handle=handle, arguments=[3], named={})
