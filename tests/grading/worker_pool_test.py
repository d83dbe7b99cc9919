"""The pool of grader processes, with workers that are killed and hang."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from score_jax.grading import frames, worker_pool


@pytest.fixture(scope='module')
def pool():
  held = worker_pool.Pool('math', {}, workers=2, deadline=60)
  yield held
  held.close()


def test_frames_come_out_as_they_went_in():
  messages = [{'a': 'é\n'}, [1, None], 'x' * 100_000]
  data = b''.join(map(frames.pack, messages))
  splitter = frames.Splitter()
  out = []
  for start in range(0, len(data), 7):
    out += splitter.feed(data[start : start + 7])
  assert out == messages


def test_a_frame_of_absurd_length_is_refused():
  with pytest.raises(ValueError, match='bytes'):
    frames.Splitter().feed(b'\xff\xff\xff\xff')


def test_answers_come_in_order(pool):
  jobs = [{'gold': str(n), 'pred': f'{n}.0'} for n in range(50)]
  jobs[20]['pred'] = '7777'
  labels = [answer['label'] for answer, _ in pool.run(jobs)]
  assert labels == ['correct'] * 20 + ['wrong'] + ['correct'] * 29


def test_no_jobs_no_answers(pool):
  assert pool.run([]) == []


def test_workers_hold_no_secret(monkeypatch):
  monkeypatch.setenv('HF_TOKEN', 'secret')
  held = worker_pool.Pool('math', {}, workers=1)
  try:
    held.run([{'gold': '1', 'pred': '1.0'}])
    environ = pathlib.Path(f'/proc/{held.pids[0]}/environ').read_bytes()
  finally:
    held.close()
  assert b'HF_TOKEN' not in environ


def check_kills(count: int):
  """Random kills change no verdict: each is retried on another worker."""
  rng = random.Random(0)
  jobs = [
    {'gold': f'\\frac{{{n}}}{{7}}', 'pred': f'{n + (n % 3 == 0)}/7'}
    for n in range(count)
  ]
  # Algebra for a part, so that workers are busy when they are killed.
  for n in range(0, count, 5):
    jobs[n] = {'gold': f'(x+{n})^2', 'pred': f'x^2+{2 * n}x+{n * n + n % 2}'}
  held = worker_pool.Pool('math', {}, workers=2, deaths_per_job=6)
  try:
    expected = [answer['label'] for answer, _ in held.run(jobs)]
    stop = threading.Event()

    def kill_now_and_then():
      while not stop.wait(rng.uniform(1.5, 2.5)):
        os.kill(rng.choice(held.pids), signal.SIGKILL)

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    try:
      rounds = 0
      while held.replaced < 3:
        answers = held.run(jobs)
        assert [answer['label'] for answer, _ in answers] == expected
        rounds += 1
    finally:
      stop.set()
      killer.join()
  finally:
    held.close()
  assert {'correct', 'wrong'} == set(expected)
  assert rounds >= 1


def test_killed_workers_change_no_verdict():
  check_kills(200)


@pytest.mark.slow
def test_killed_workers_change_no_verdict_of_two_thousand():
  check_kills(2000)


def test_a_stopped_worker_is_replaced_and_its_job_answered():
  held = worker_pool.Pool('math', {}, workers=1, deadline=3.0)
  try:
    held.run([{'gold': '1', 'pred': '2'}])
    [pid] = held.pids
    os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    [(answer, _)] = held.run([{'gold': 'x+1', 'pred': '1+x'}])
    assert answer['label'] == 'correct'
    assert time.monotonic() - start < 60
    assert held.pids != [pid]
    assert not pathlib.Path(f'/proc/{pid}').exists()
  finally:
    held.close()


def test_a_job_that_always_loses_its_worker_fails_and_others_do_not():
  # A job that is no mapping of the handler's makes its worker die.
  held = worker_pool.Pool('math', {}, workers=2, deaths_per_job=2)
  try:
    jobs = [
      {'gold': '1', 'pred': '1.0'},
      {'silver': 1},
      {'gold': '2', 'pred': '3'},
    ]
    (first, _), (failed, _), (last, _) = held.run(jobs)
  finally:
    held.close()
  assert (first['label'], last['label']) == ('correct', 'wrong')
  assert isinstance(failed, worker_pool.Failure)
  assert failed.label == 'crash'


def test_workers_that_do_not_start_are_an_error():
  with pytest.raises(RuntimeError, match='do not start'):
    worker_pool.Pool('math', {'no_such_policy': 1}, workers=1).run(
      [{'gold': '1'}]
    )


def test_a_closed_pool_says_so():
  held = worker_pool.Pool('math', {}, workers=1)
  held.close()
  held.close()
  with pytest.raises(RuntimeError, match='closed'):
    held.run([{'gold': '1', 'pred': '1'}])


def test_workers_end_with_their_parent():
  program = (
    'import sys, time\n'
    'from score_jax.grading import worker_pool\n'
    "pool = worker_pool.Pool('math', {}, workers=1)\n"
    "pool.run([{'gold': '1', 'pred': '1.0'}])\n"
    'print(pool.pids[0], flush=True)\n'
    'time.sleep(60)\n'
  )
  root = pathlib.Path(worker_pool.__file__).parents[2]
  with subprocess.Popen(
    [sys.executable, '-c', program],
    stdout=subprocess.PIPE,
    text=True,
    cwd=root,
  ) as parent:
    pid = int(parent.stdout.readline())
    parent.kill()
  deadline = time.monotonic() + 20
  while time.monotonic() < deadline and is_running(pid):
    time.sleep(0.1)
  assert not is_running(pid)


def is_running(pid: int) -> bool:
  try:
    stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except OSError:
    return False
  return stat.rpartition(')')[2].split()[0] != 'Z'


def test_graders_never_import_jax():
  program = (
    'import importlib, pkgutil, sys\n'
    'from score_jax import grading, tasks\n'
    'for package in (grading, tasks):\n'
    '  name = package.__name__ + "."\n'
    '  for module in pkgutil.walk_packages(package.__path__, name):\n'
    '    if not module.ispkg and "probe_program" not in module.name:\n'
    '      importlib.import_module(module.name)\n'
    'assert not {"jax", "flax"} & set(sys.modules), "jax was imported"\n'
  )
  root = pathlib.Path(worker_pool.__file__).parents[2]
  subprocess.run([sys.executable, '-c', program], cwd=root, check=True)
