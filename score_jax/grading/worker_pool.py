"""A pool of warm grader processes that survives hung and killed workers.

Not concurrent.futures: there a timeout only ends the waiting, and a hung worker
is never reclaimed. Here each worker has one job in flight, the parent enforces
its deadline, and a worker that passes it or dies is killed and replaced while
the others go on.
"""

import atexit
import collections
from collections.abc import Callable, Sequence
import dataclasses
import os
import pathlib
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any
import weakref

from score_jax import types
from score_jax.grading import json_frames

_ROOT = pathlib.Path(__file__).resolve().parents[2]
# Of the environment. Tokens and other secrets stay out of grader processes.
_KEPT_VARIABLES = ('PATH', 'HOME', 'LANG', 'LC_ALL', 'TMPDIR')
_START_SECONDS = 120.0
_LIVE_POOLS: weakref.WeakSet = weakref.WeakSet()


@dataclasses.dataclass(frozen=True)
class Failure:
  """The answer to a job whose workers failed repeatedly.

  Attributes:
    label: 'timeout' past the deadline, 'crash' where the worker died.
    reason: one line for people.
  """

  label: str
  reason: str


class _Worker:
  """One process, its pipe, and the job that it works on."""

  def __init__(self, settings: dict[str, Any]):
    # A file, not a pipe: nobody would empty a pipe, and the worker would block.
    self.stderr = tempfile.TemporaryFile()  # noqa: SIM115 closed in `end`
    environment = {k: os.environ[k] for k in _KEPT_VARIABLES if k in os.environ}
    environment['PYTHONPATH'] = str(_ROOT)
    # -P keeps the working directory, which may hold anything, off the path. In
    # a session of its own the worker gets no Ctrl-C of the terminal.
    self.process = subprocess.Popen(
      [sys.executable, '-P', '-m', 'score_jax.grading.worker'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self.stderr,
      env=environment,
      bufsize=0,
      start_new_session=True,
    )
    self.received = bytearray()
    self.ready = False
    self.job: int | None = None
    self.started = time.monotonic()
    self.deadline = self.started + _START_SECONDS
    os.set_blocking(self.process.stdout.fileno(), False)
    self.send(settings)

  def send(self, message: Any) -> bool:
    """Sends a message; False where the worker has died."""
    data = json_frames.pack(message)
    try:
      while data:
        data = data[self.process.stdin.write(data) :]
    except OSError:
      return False
    return True

  def end(self) -> str:
    """Kills and reaps the process; returns the end of its stderr."""
    self.process.kill()
    self.process.wait()
    self.process.stdin.close()
    self.process.stdout.close()
    self.stderr.seek(0, os.SEEK_END)
    self.stderr.seek(max(0, self.stderr.tell() - 2000))
    said = self.stderr.read().decode(errors='replace')
    self.stderr.close()
    return said


class Pool:
  """Worker processes that answer jobs, in order, whatever happens to them."""

  def __init__(
    self,
    handler: str,
    options: dict[str, Any],
    *,
    workers: int | None = None,
    cpu_seconds: float = 5.0,
    deadline: float = 90.0,
    deaths_per_job: int = 3,
  ):
    """Starts the workers; they warm up while the caller goes on.

    Args:
      handler: a name in `worker.HANDLERS`.
      options: keyword arguments of the handler's `make_handler`.
      workers: number of processes; None for one less than there are cores.
      cpu_seconds: limit of CPU time per job, kept inside the worker.
      deadline: seconds of wall time after which a job's worker is killed.
      deaths_per_job: number of workers that may die of a job before it is a
        `Failure`. It is one after two passed deadlines as well.
    """
    self._settings = {
      'handler': handler,
      'options': options,
      'cpu_seconds': cpu_seconds,
    }
    self._deadline = deadline
    self._deaths_per_job = deaths_per_job
    self._lock = threading.Lock()
    self._selector = selectors.DefaultSelector()
    self._failed_starts = 0.0
    self._is_interrupted = False
    self.replaced = 0
    self._workers: list[_Worker] = []
    for _ in range(workers or max(1, (os.cpu_count() or 2) - 1)):
      self._start()
    _LIVE_POOLS.add(self)

  @property
  def pids(self) -> list[int]:
    """Process ids of the present workers."""
    return [worker.process.pid for worker in self._workers]

  def run(
    self,
    jobs: Sequence[Any],
    done: Callable[[int], None] | None = None,
  ) -> list[tuple[Any, float]]:
    """(answer or Failure, seconds) of each job, in the order of `jobs`.

    Args:
      jobs: what the handler takes.
      done: called with the index of each job that is answered.

    Raises:
      RuntimeError: workers do not start, or the pool is closed.
      StoppedError: `interrupt` was called, before or meanwhile.
    """
    with self._lock:
      if not self._workers:
        raise RuntimeError('the grader pool is closed')
      batch = _Batch(jobs, done)
      while batch.left:
        if self._is_interrupted:
          raise types.StoppedError
        self._hand_out(batch)
        soonest = min(worker.deadline for worker in self._workers)
        # Wakes up for the first deadline, so that a hung worker delays nobody.
        timeout = max(0.0, min(soonest - time.monotonic(), 1.0))
        for key, _ in self._selector.select(timeout):
          self._receive(key.data, batch)
        for worker in list(self._workers):
          if time.monotonic() > worker.deadline:
            self._lost(worker, 'timeout', batch)
      return batch.results

  def interrupt(self) -> None:
    """Ends the present `run` within a second, and every later one at once.

    Waits for nothing, so that a signal handler may call it.
    """
    self._is_interrupted = True

  def close(self) -> None:
    """Ends all workers. May be called twice."""
    with self._lock:
      for worker in self._workers:
        self._selector.unregister(worker.process.stdout)
        worker.end()
      self._workers.clear()

  def _start(self) -> None:
    worker = _Worker(self._settings)
    self._workers.append(worker)
    self._selector.register(worker.process.stdout, selectors.EVENT_READ, worker)

  def _hand_out(self, batch: '_Batch') -> None:
    for worker in list(self._workers):
      if worker.ready and worker.job is None and batch.waiting:
        worker.job = batch.waiting.popleft()
        worker.started = time.monotonic()
        job = batch.jobs[worker.job]
        seconds = job.get('deadline', self._deadline)
        worker.deadline = worker.started + seconds
        if not worker.send(job):
          self._lost(worker, 'crash', batch)

  def _receive(self, worker: _Worker, batch: '_Batch') -> None:
    try:
      data = os.read(worker.process.stdout.fileno(), 1 << 20)
      worker.received += data
      messages = []
      while message := json_frames.take(worker.received):
        messages += message
    except BlockingIOError:
      return
    except ValueError:
      # Garbage in the pipe: what follows cannot be told apart any more.
      data = b''
    if not data:
      self._lost(worker, 'crash', batch)
      return
    for message in messages:
      if worker.ready and worker.job is not None:
        seconds = time.monotonic() - worker.started
        batch.answer(worker.job, message, seconds)
        worker.job = None
      worker.ready = True
      self._failed_starts = 0.0
      worker.deadline = float('inf')

  def _lost(self, worker: _Worker, label: str, batch: '_Batch') -> None:
    """Replaces a worker; its job goes back or, after too many, fails."""
    self._selector.unregister(worker.process.stdout)
    self._workers.remove(worker)
    said = worker.end()
    if not worker.ready:
      # Being killed from outside says less about the next start than an error.
      killed = label == 'crash' and worker.process.returncode < 0
      self._failed_starts += 0.1 if killed else 1.0
      if self._failed_starts > 3 + len(self._workers):
        raise RuntimeError(
          f'grader processes do not start ({sys.executable} -m '
          f'score_jax.grading.worker). The last one said:\n{said}'
        )
    if worker.job is not None:
      seconds = time.monotonic() - worker.started
      batch.lost(worker.job, label, seconds, self._deaths_per_job)
    self.replaced += 1
    self._start()


class _Batch:
  """Jobs of one `run`, their answers, and how often each failed."""

  def __init__(self, jobs, done):
    self.jobs = jobs
    self.waiting = collections.deque(range(len(jobs)))
    self.results: list[Any] = [None] * len(jobs)
    self.left = len(jobs)
    self._failures = collections.defaultdict(collections.Counter)
    self._done = done

  def answer(self, index: int, message: Any, seconds: float) -> None:
    self.results[index] = (message, seconds)
    self.left -= 1
    if self._done:
      self._done(index)

  def lost(self, index: int, label: str, seconds: float, deaths: int) -> None:
    failures = self._failures[index]
    failures[label] += 1
    if failures['timeout'] < 2 and failures['crash'] < deaths:
      # To the end of the queue: others first, in case it kills the next too.
      self.waiting.append(index)
      return
    count = failures.total()
    reason = f'{count} grader processes were lost on it, the last by {label}'
    self.answer(index, Failure(label, reason), seconds)


@atexit.register
def _close_pools() -> None:
  for pool in list(_LIVE_POOLS):
    pool.close()
