"""Heartbeats of the processes of a run: one that dies is named in seconds.

The others would wait for it in a collective until jax gives up, minutes later,
and aborts with a stack of C++ that names nobody. Here a thread of every process
writes a beat a second into the key-value store of `jax.distributed`, and reads
the others'. Who misses `LOST_SECONDS` of beats says whose, and ends its own
process with `EXIT_CODE`. Compiling and collectives hold no thread up.
"""

import atexit
from collections.abc import Callable
import contextlib
import ctypes
import functools
import json
import os
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

from jax._src import distributed as jax_distributed

LOST_SECONDS = 15
# EX_TEMPFAIL of sysexits.h: the same command may succeed.
EXIT_CODE = 75

_STORE = 'score_jax/heartbeat'
# So long a process stays after it has found or told what ends it, for others to
# read; the first one longer, since it has the store.
_LINGER_SECONDS = 2
_FIRST_LINGERS_SECONDS = 4
_NEXT = (
  'This process ends, so as not to wait for it; the same command, started in '
  'every process, goes on with what is saved.'
)


def start() -> None:
  """Watches the processes that `jax.distributed.initialize` has joined."""
  global _watch
  _watch = watch = _Watch(jax_distributed.global_state)
  for work in (watch.beat, watch.listen):
    threading.Thread(target=work, daemon=True).start()
  atexit.register(watch.end)
  sys.excepthook = watch.fail
  if watch.index:
    _call_on_abort(watch.abort)


def end_with(error: Exception, code: int, say: Callable[[], object]) -> None:
  """Says an error, and ends this process where others wait for it.

  They end too, and name it. Where another process is gone, which may be what
  the error comes from, that is said instead.

  Args:
    error: what ends this process.
    code: its exit code.
    say: says the error.
  """
  if _watch is None:
    say()
  else:
    _watch.end_with(error, code, say)


# Of this process, where there are others.
_watch: '_Watch | None' = None


class _Watch:
  """The beats of this process, and what it hears of the others'."""

  def __init__(self, state: jax_distributed.State):
    self.index = state.process_id
    self._client = state.client
    self._coordinator = state.coordinator_address
    self._own = {'host': socket.gethostname(), 'state': 'alive', 'beats': 0}
    self._error: str | None = None
    # Taken by the thread that says why this process ends, and never released.
    self._last_word = threading.Lock()
    # Of the others: the newest record, and how many beats ago it changed.
    self._records: dict[int, dict[str, Any]] = {
      i: {'host': '?', 'state': 'alive', 'beats': 0}
      for i in range(state.num_processes)
      if i != self.index
    }
    self._silent = dict.fromkeys(self._records, 0)
    # Seconds for which the store, in the first process, has not answered.
    self._unheard = 0
    self._print_error = sys.excepthook

  def beat(self) -> None:
    """Writes and reads a beat a second, for ever."""
    while True:
      # Whatever the client raises: `listen` counts how long it lasts.
      with contextlib.suppress(Exception):
        self._exchange()
      time.sleep(1)

  def listen(self) -> None:
    """Waits for the first process, where reading from it does not return."""
    while self.index:
      time.sleep(1)
      # A count of seconds, not a clock: this process may have been stopped.
      self._unheard += 1
      if self._unheard >= LOST_SECONDS and self._own['state'] == 'alive':
        self._leave(0, _lost())

  def _exchange(self) -> None:
    self._own['beats'] += 1
    self._client.key_value_set(
      f'{_STORE}/{self.index}', json.dumps(self._own), allow_overwrite=True
    )
    found = dict(self._client.key_value_dir_get(_STORE))
    self._unheard = 0
    for index, before in self._records.items():
      record = json.loads(found.get(f'{_STORE}/{index}', json.dumps(before)))
      self._silent[index] = 0 if record != before else self._silent[index] + 1
      self._records[index] = record
    self._judge()

  def _judge(self) -> None:
    """Leaves if another process was lost, or failed otherwise than this one."""
    if self._own['state'] != 'alive':
      return
    for index, record in self._records.items():
      is_lost = self._silent[index] >= LOST_SECONDS
      if is_lost and record['state'] == 'alive':
        self._leave(index, _lost())
      if record['state'] == 'failed' and record['error'] != self._error:
        self._leave(index, f'failed ({record["error"]}).')

  def _leave(self, index: int, reason: str) -> NoReturn:
    self._last_word.acquire()
    host = self._records[index]['host']
    # Past Python's buffers, whose lock the main thread may hold.
    os.write(2, f'error: process {index} ({host}) {reason} {_NEXT}\n'.encode())
    self._exit(EXIT_CODE)

  def _exit(self, code: int) -> NoReturn:
    """Ends this process without exit handlers, which wait for the others."""
    time.sleep(_LINGER_SECONDS if self.index else _FIRST_LINGERS_SECONDS)
    with contextlib.suppress(Exception):
      sys.stdout.flush()
    os._exit(code)

  def end(self) -> None:
    """Tells the others that no more beats will come, and that all is well."""
    if self._own['state'] == 'alive':
      self._own['state'] = 'ended'
      with contextlib.suppress(Exception):
        self._exchange()

  def fail(self, kind, error, trace) -> NoReturn:
    """Ends with an uncaught error, unless it is that another process is gone.

    A collective may raise such an error long before beats are missed.
    """
    say = functools.partial(self._print_error, kind, error, trace)
    self.end_with(error, 1, say)

  def end_with(self, error, code, say) -> NoReturn:
    """See `end_with` of the module."""
    self._error = _one_line(error)
    before = {i: record['beats'] for i, record in self._records.items()}
    # Until all others were heard after it; if one is lost, `_judge` leaves.
    while any(
      record['state'] == 'alive' and record['beats'] < before[i] + 2
      for i, record in self._records.items()
    ):
      time.sleep(0.1)
    self._last_word.acquire()
    self._own |= {'state': 'failed', 'error': self._error}
    with contextlib.suppress(Exception):
      self._exchange()
    say()
    self._exit(code)

  def abort(self) -> None:
    """Leaves if the first process, which jax cannot live without, is gone."""
    if self._own['state'] == 'ended':
      return
    host, _, port = self._coordinator.rpartition(':')
    try:
      socket.create_connection((host.strip('[]'), int(port)), 2).close()
    except OSError:
      self._leave(0, 'is gone: it was killed, or its machine is.')


def _lost() -> str:
  return (
    f'has not answered for {LOST_SECONDS} s: it was killed, or its machine is '
    'gone.'
  )


def _one_line(error: BaseException) -> str:
  text = ' '.join(str(error).split())
  return f'{type(error).__name__}: {text[:200]}'


def _call_on_abort(function: Callable[[], None]) -> None:
  """Calls a function where a library aborts the process.

  jax does as soon as its connection to the first process breaks. Handlers of
  the module `signal` run between two instructions of the main thread, which an
  abort does not reach.
  """
  handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: function())
  _KEPT.append(handler)
  install = ctypes.CDLL(None).signal
  install.argtypes, install.restype = [ctypes.c_int, type(handler)], None
  install(signal.SIGABRT, handler)


# What C calls, Python must not collect.
_KEPT: list[Any] = []
