"""Faults at the n-th file operation of a child process.

An audit hook sees what Python does to files under a directory, in all threads,
before it is done: open for writing, mkdir, rename, remove, rmdir, truncate;
wrappers add fsync and the appending of a line. Tensorstore writes arrays by
itself, but only into a checkpoint that has not got its name yet, between two of
Orbax's operations that are seen.

Children are forked from a server that has imported everything: each costs a
fraction of a second.
"""

from collections.abc import Callable
import contextlib
import errno
import itertools
import multiprocessing
import os
import pathlib
import signal
import sys
from typing import Any

from score_jax.io import written_files

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# What fills a disk.
BALLAST = 'ballast'
# Where the arguments of an event have the descriptor of the path's directory.
_DIRECTORY = {'os.mkdir': 2, 'os.remove': 1, 'os.rename': 2, 'os.rmdir': 1}


def run(function: Callable[..., None], *arguments: Any) -> int:
  """Runs `function(*arguments)` in a child; its exit code, as of Popen."""
  return finish(start(function, *arguments))


def start(
  function: Callable[..., None], *arguments: Any
) -> multiprocessing.process.BaseProcess:
  """A child that runs `function(*arguments)`; `finish` has to follow."""
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload([function.__module__])
  child = context.Process(target=function, args=arguments)
  child.start()
  return child


def finish(child: multiprocessing.process.BaseProcess) -> int:
  """Waits for a child; its exit code.

  Raises:
    TimeoutError: it hangs, and was killed.
  """
  child.join(120)
  if child.is_alive():
    child.kill()
    raise TimeoutError(f'{child} hangs')
  return child.exitcode


def kill() -> None:
  """The process dies."""
  os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
  """The process is asked to stop."""
  os.kill(os.getpid(), signal.SIGTERM)


def refuse(number: int = errno.EIO) -> None:
  """The operation fails.

  Raises:
    OSError: of this number.
  """
  raise OSError(number, os.strerror(number))


def fill(folder: pathlib.Path) -> None:
  """The file system of a folder has no byte left from here on."""
  with (folder / BALLAST).open('wb', buffering=0) as file:
    with contextlib.suppress(OSError):
      while True:
        file.write(bytes(1 << 20))
    with contextlib.suppress(OSError):
      while True:
        file.write(b'\0')


def watch(
  root: os.PathLike[str] | str,
  at: int | None = None,
  fault: Callable[[], None] = kill,
) -> Callable[[], list[str]]:
  """Makes a fault before the operation of number `at` under a directory.

  Args:
    root: the directory.
    at: from 1 on; None: operations are listed and nothing happens.
    fault: what happens.

  Returns:
    Lists the operations so far.
  """
  seen = []
  numbers = itertools.count(1)

  def note(name, path):
    seen.append(f'{name} {path}')
    if next(numbers) == at:
      fault()

  def hook(event, arguments):
    if event == 'open':
      path, _, flags = arguments
      if isinstance(path, int) or not flags & _WRITING:
        return
    elif event in _DIRECTORY:
      path, folder = arguments[0], arguments[_DIRECTORY[event]]
      if folder >= 0:
        path = os.path.join(os.readlink(f'/proc/self/fd/{folder}'), path)
    elif event == 'os.truncate':
      path = arguments[0]
    else:
      return
    is_done = event == 'os.mkdir' and os.path.isdir(path)
    if str(path).startswith(str(root)) and not is_done:
      note(event, path)

  def fsync(descriptor, call=os.fsync):
    note('fsync', descriptor)
    call(descriptor)

  def append(log, call=written_files.Log._append):
    if log._waiting:
      note('append', log._path)
    call(log)

  sys.addaudithook(hook)
  os.fsync = fsync
  written_files.Log._append = append
  return lambda: list(seen)
