"""The pool of grader processes, with workers that are killed and hang."""

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from score_jax import types
from score_jax.grading import json_frames, worker_pool

ROOT = pathlib.Path(worker_pool.__file__).parents[2]
# A handler that starts in a tenth of the math handler's time (no sympy), and a
# job that it answers at once: an attempt without a program.
QUICK = ('code', {'kind': 'none', 'python': sys.executable})
QUICK_JOB = {
  'text': 'I give up.',
  'suite': {'tests': [], 'entry_point': 'f'},
  'extract': True,
  'prompt': '',
}


@pytest.fixture(scope='module')
def pool():
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('HF_TOKEN', 'secret')
    held = worker_pool.Pool('math', {}, workers=2, deaths_per_job=6)
  with contextlib.closing(held):
    yield held


def test_frames_come_out_as_they_went_in():
  messages = [{'a': 'é\n'}, [1, None], None, 'x' * 100_000]
  data = b''.join(map(json_frames.pack, messages))
  buffer, out = bytearray(), []
  for start in range(0, len(data), 7):
    buffer += data[start : start + 7]
    while message := json_frames.take(buffer):
      out += message
  assert out == messages
  assert not buffer


def test_a_frame_of_absurd_length_is_rejected():
  with pytest.raises(ValueError, match='bytes'):
    json_frames.take(bytearray(b'\xff\xff\xff\xff'))


def test_answers_come_in_order(pool):
  jobs = [{'gold': str(n), 'pred': f'{n}.0'} for n in range(50)]
  jobs[20]['pred'] = '7777'
  labels = [answer['label'] for answer, _ in pool.run(jobs)]
  assert labels == ['correct'] * 20 + ['wrong'] + ['correct'] * 29


def test_no_jobs_no_answers(pool):
  assert pool.run([]) == []


def test_workers_hold_no_secret(pool):
  environ = pathlib.Path(f'/proc/{pool.pids[0]}/environ').read_bytes()
  assert b'PYTHONPATH' in environ
  assert b'HF_TOKEN' not in environ


def jobs_of(count: int) -> tuple[list[dict], list[str]]:
  """Jobs and the labels of their answers."""
  jobs = [
    {'gold': f'\\frac{{{n}}}{{7}}', 'pred': f'{n + (n % 3 == 0)}/7'}
    for n in range(count)
  ]
  # Algebra for a part, so that workers are busy when they are killed.
  for n in range(0, count, 5):
    jobs[n] = {'gold': f'(x+{n})^2', 'pred': f'x^2+{2 * n}x+{n * n + n % 2}'}
  wrong = [n % 2 if n % 5 == 0 else n % 3 == 0 for n in range(count)]
  return jobs, ['wrong' if w else 'correct' for w in wrong]


def test_killed_workers_change_no_verdict(pool):
  jobs, expected = jobs_of(200)
  replaced = pool.replaced
  answered = []

  def kill(index):
    answered.append(index)
    if len(answered) in (40, 120):
      # Both at once: one of them has a job, and the other gets one.
      for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)

  labels = [answer['label'] for answer, _ in pool.run(jobs, kill)]
  assert labels == expected
  assert pool.replaced == replaced + 4


@pytest.mark.slow
def test_random_kills_change_no_verdict_of_two_thousand(pool):
  rng = random.Random(0)
  jobs, expected = jobs_of(2000)
  stop = threading.Event()

  def kill_now_and_then():
    while not stop.wait(rng.uniform(1.5, 2.5)):
      os.kill(rng.choice(pool.pids), signal.SIGKILL)

  replaced = pool.replaced
  killer = threading.Thread(target=kill_now_and_then)
  killer.start()
  try:
    while pool.replaced < replaced + 3:
      labels = [answer['label'] for answer, _ in pool.run(jobs)]
      assert labels == expected
  finally:
    stop.set()
    killer.join()


def test_a_stopped_worker_is_replaced_and_its_job_answered():
  with contextlib.closing(worker_pool.Pool(*QUICK, workers=1)) as held:
    held.run([QUICK_JOB])
    [pid] = held.pids
    os.kill(pid, signal.SIGSTOP)
    [(answer, _)] = held.run([QUICK_JOB | {'deadline': 3.0}])
    assert answer['label'] == 'unparseable'
    assert held.pids != [pid]
    assert not pathlib.Path(f'/proc/{pid}').exists()


def test_a_job_that_always_loses_its_worker_fails_and_others_do_not():
  # A job that is no mapping of the handler's makes its worker die.
  held = worker_pool.Pool(*QUICK, workers=2, deaths_per_job=2)
  with contextlib.closing(held):
    (first, _), (failed, _), (last, _) = held.run(
      [QUICK_JOB, {'silver': 1}, QUICK_JOB]
    )
  assert first['label'] == last['label'] == 'unparseable'
  assert isinstance(failed, worker_pool.Failure)
  assert failed.label == 'crash'


def test_workers_that_do_not_start_are_an_error():
  held = worker_pool.Pool('code', {'no_such_option': 1}, workers=1)
  raises = pytest.raises(RuntimeError, match='no_such_option')
  with contextlib.closing(held), raises:
    held.run([QUICK_JOB])


def test_an_interrupted_pool_waits_for_nobody():
  held = worker_pool.Pool(*QUICK, workers=1)
  with contextlib.closing(held):
    held.run([QUICK_JOB])
    # A worker that does nothing, and whose deadline is far away.
    [pid] = held.pids
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.2, held.interrupt).start()
    begin = time.monotonic()
    with pytest.raises(types.StoppedError):
      held.run([QUICK_JOB])
    assert time.monotonic() - begin < 20
    with pytest.raises(types.StoppedError):
      held.run([QUICK_JOB])


def test_a_closed_pool_says_so():
  held = worker_pool.Pool(*QUICK, workers=1)
  held.close()
  held.close()
  with pytest.raises(RuntimeError, match='closed'):
    held.run([QUICK_JOB])


def test_workers_end_with_their_parent():
  program = (
    'import time\n'
    'from score_jax.grading import worker_pool\n'
    f'pool = worker_pool.Pool(*{QUICK!r}, workers=1)\n'
    f'pool.run([{QUICK_JOB!r}])\n'
    'print(pool.pids[0], flush=True)\n'
    'time.sleep(60)\n'
  )
  with subprocess.Popen(
    [sys.executable, '-c', program],
    stdout=subprocess.PIPE,
    text=True,
    cwd=ROOT,
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
