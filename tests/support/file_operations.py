"""Deaths at the n-th file operation of a child process.

An audit hook sees what Python does to files under a directory, in all threads,
before it is done: open for writing, mkdir, rename, remove, rmdir, truncate;
wrappers add fsync and the appending of a line. Tensorstore writes arrays by
itself, but only into a checkpoint that has not got its name yet, between two of
Orbax's operations that are seen.

Children are forked from a server that has imported everything: each costs a
fraction of a second.
"""

from collections.abc import Callable
import itertools
import multiprocessing
import os
import pathlib
import signal
import sys
from typing import Any

from score_jax.io import written_files

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Where the arguments of an event have the descriptor of the path's directory.
_DIRECTORY = {'os.mkdir': 2, 'os.remove': 1, 'os.rename': 2, 'os.rmdir': 1}


def run(function: Callable[..., None], *arguments: Any) -> int:
  """Runs `function(*arguments)` in a child; its exit code, as of Popen."""
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload([function.__module__])
  child = context.Process(target=function, args=arguments)
  child.start()
  child.join(120)
  if child.is_alive():
    child.kill()
    raise TimeoutError(f'{function.__name__}{arguments} hangs')
  return child.exitcode


def watch(root: pathlib.Path, at: int | None = None) -> Callable[[], list[str]]:
  """Dies before the operation of number `at`, from 1 on, under a directory.

  Args:
    root: the directory.
    at: None: operations are listed and nothing happens.

  Returns:
    Lists the operations so far.
  """
  seen = []
  numbers = itertools.count(1)

  def note(name, path):
    seen.append(f'{name} {path}')
    if next(numbers) == at:
      os.kill(os.getpid(), signal.SIGKILL)

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

  def write(log, record, call=written_files.Log.write):
    note('line', record['step'])
    call(log, record)

  sys.addaudithook(hook)
  os.fsync = fsync
  written_files.Log.write = write
  return lambda: list(seen)
