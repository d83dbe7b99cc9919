"""The trusted end of the pipe: one program, from start to verdict.

The session enforces the deadlines. A program can neither answer late nor hang
the runner: every exchange ends with an answer or an exception of this module,
and `close` leaves no process behind.
"""

import os
import pathlib
import select
import signal
import time
from typing import Any

from score_jax.grading import json_frames
from score_jax.grading.sandbox import launch

LONGEST_REPLY = 8 * 2**20
_POLL_SECONDS = 0.2
_TICKS = os.sysconf('SC_CLK_TCK')
_CHILDREN_LISTED = pathlib.Path('/proc/thread-self/children').exists()


class ProgramEndedError(Exception):
  """The program's interpreter ended, or broke the protocol."""


class ProgramTimeoutError(Exception):
  """The program ran out of CPU or wall time, or idled for too long."""


class SandboxFailedError(Exception):
  """The sandbox itself did not start: the program is not graded."""


class Session:
  """A sandboxed interpreter that answers one request at a time."""

  def __init__(self, sandbox: launch.Sandbox, limits: launch.Limits):
    """Starts the interpreter.

    Raises:
      SandboxFailedError: it could not be started.
    """
    self._limits = limits
    self._started = time.monotonic()
    try:
      self._child = launch.start(sandbox, limits)
    except OSError as error:
      raise SandboxFailedError(str(error)) from error
    self._answered = False
    # No code of the program has run yet: what fails here is the sandbox, which
    # must not count as the program's failure (reward 0).
    try:
      self.request('time')
    except (ProgramEndedError, ProgramTimeoutError) as error:
      self.close()
      raise SandboxFailedError(f'no answer at start: {error}') from error
    except SandboxFailedError:
      self.close()
      raise

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()

  def request(self, operation: str, **fields: Any) -> dict[str, Any]:
    """The program's reply: `value` (tagged) or `error` and `message`.

    Raises:
      ProgramEndedError: there will be no reply.
      ProgramTimeoutError: there was none in time.
      SandboxFailedError: the interpreter never came up.
    """
    data = json_frames.pack({'op': operation, **fields})
    reply = self._exchange(data)
    self._answered = True
    if not isinstance(reply, dict):
      raise ProgramEndedError('the reply is not of the protocol')
    return reply

  def close(self) -> None:
    """Kills what runs and closes the pipes. May be called twice."""
    if self._child is None:
      return
    # bwrap's --die-with-parent, or the lack of fork under Landlock, makes this
    # one signal end every process of the program.
    self._child.process.kill()
    self._child.process.wait()
    os.close(self._child.requests)
    os.close(self._child.replies)
    self._child = None

  def _exchange(self, data: bytes) -> Any:
    received = bytearray()
    watch = _Watch(self._child.process.pid)
    while True:
      if time.monotonic() - self._started > self._limits.wall_seconds:
        raise ProgramTimeoutError(f'over {self._limits.wall_seconds:g} s')
      # Reads while it writes: a program that fills its reply pipe before it
      # reads the whole request would block both ends.
      writing = [self._child.requests] if data else []
      readable, writable, _ = select.select(
        [self._child.replies], writing, [], _POLL_SECONDS
      )
      if writable:
        try:
          data = data[os.write(self._child.requests, data[: 1 << 16]) :]
        except BlockingIOError:
          continue
        except BrokenPipeError:
          raise self._ended() from None
      if readable:
        piece = os.read(self._child.replies, 1 << 16)
        if not piece:
          raise self._ended()
        received += piece
        if len(received) > LONGEST_REPLY:
          raise ProgramEndedError(f'a reply of over {LONGEST_REPLY} bytes')
        try:
          replies = json_frames.take(received, LONGEST_REPLY)
        except (ValueError, RecursionError) as error:
          raise ProgramEndedError('the reply is not of the protocol') from error
        # More than one reply to a request: the rest is dropped.
        if replies:
          return replies[0]
      elif not writable:
        watch.check(self._limits)

  def _ended(self) -> Exception:
    """The exception that stands for a closed pipe."""
    process = self._child.process
    try:
      code = process.wait(timeout=1.0)
    except Exception:  # still running, with its pipe closed
      return ProgramEndedError('the program closed the pipe')
    if not self._answered:
      return SandboxFailedError(f'the sandbox ended with code {code} at start')
    seconds = time.monotonic() - self._started
    # bwrap passes its child's signal on as 128 + signal.
    number = -code if code < 0 else code - 128
    # The kernel sends SIGXCPU at the soft CPU limit and SIGKILL at the hard
    # one; an earlier SIGKILL has another cause, such as memory.
    if number == signal.SIGXCPU or (
      number == signal.SIGKILL and seconds > 0.8 * self._limits.cpu_seconds
    ):
      return ProgramTimeoutError(
        f'over {self._limits.cpu_seconds:g} s of CPU time'
      )
    return ProgramEndedError(f'the program ended with code {code}')


class _Watch:
  """Limits the CPU time and the idle time of a tree of processes.

  The kernel limits the CPU time of each process alone; here the tree's total
  counts. Idle time, in which no thread of it is runnable, is limited because a
  sleeping program would otherwise hold a worker for all its wall time. A
  starved process is runnable, not idle, so a busy machine ends no honest
  program. On kernels that do not list children (CONFIG_PROC_CHILDREN) only the
  wall time limits both.
  """

  def __init__(self, pid: int):
    self._pid = pid
    self._used = -1.0
    self._since = time.monotonic()

  def check(self, limits: launch.Limits) -> None:
    """Raises ProgramTimeoutError beyond the limits."""
    if not _CHILDREN_LISTED:
      return
    used, runnable = _tree_cpu(self._pid)
    now = time.monotonic()
    if used != self._used or runnable:
      self._used, self._since = used, now
    if now - self._since > limits.idle_seconds:
      raise ProgramTimeoutError(f'no CPU used for {limits.idle_seconds:g} s')
    # The kernel comes first where it can, and has a second of grace.
    if used > limits.cpu_seconds + 1.5:
      raise ProgramTimeoutError(f'over {limits.cpu_seconds:g} s of CPU time')


def _tree_cpu(pid: int) -> tuple[float, bool]:
  """(CPU seconds, whether any thread is runnable) of a process and below it."""
  used, runnable, pending = 0.0, False, [pid]
  while pending:
    process = pathlib.Path('/proc') / str(pending.pop())
    try:
      # utime, stime, cutime, cstime: of the process with its ended threads, and
      # of the children it waited for.
      used += sum(map(int, _stat(process)[11:15])) / _TICKS
      for thread in (process / 'task').iterdir():
        runnable |= _stat(thread)[0] in 'RD'
        pending += map(int, (thread / 'children').read_text().split())
    except OSError:
      continue  # it ended meanwhile
  return used, runnable


def _stat(process: pathlib.Path) -> list[str]:
  """Fields of /proc/.../stat from the state on."""
  return (process / 'stat').read_text().rpartition(')')[2].split()
