"""A grader process: `python -m score_jax.grading.worker`, jobs over pipes.

The first message on stdin names a handler; every further one is a job, and is
answered on stdout in order. Not `multiprocessing`: its children import the
caller's main module, and jax with it, and forking after jax has started threads
is unsafe.
"""

import importlib
import logging
import os
import resource
import signal
import sys
from typing import Any

from score_jax.grading import json_frames

HANDLERS = {
  'math': 'score_jax.grading.math_grading',
  'code': 'score_jax.grading.code_grading',
}
_MEMORY_BYTES = 4 * 2**30


class OutOfTimeError(BaseException):
  """CPU time is used up. Not an Exception, so that no library catches it."""


def _out_of_time(signum, frame):
  del signum, frame
  raise OutOfTimeError


def answer(handler, job: dict[str, Any], cpu_seconds: float) -> dict[str, Any]:
  """The handler's answer to one job, within a limit of CPU time.

  CPU time, not wall time: a verdict must not depend on how busy the machine
  is. The signal is handled between bytecodes, so a C call that never returns
  to the interpreter is left to the parent, which kills the process.
  """
  try:
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_seconds)
    try:
      return handler(job)
    finally:
      signal.setitimer(signal.ITIMER_VIRTUAL, 0)
  except OutOfTimeError:
    return {'label': 'timeout', 'reason': f'over {cpu_seconds:g} s of CPU time'}
  except RecursionError:
    return {'label': 'unparseable', 'reason': 'nested too deeply'}


def main() -> None:
  """Serves jobs until stdin closes."""
  stdin = os.fdopen(os.dup(0), 'rb')
  stdout = os.fdopen(os.dup(1), 'wb')
  # Whatever a library prints goes to stderr, never between the messages.
  os.dup2(2, 1)
  # Nor may a library read a job from stdin.
  null = os.open(os.devnull, os.O_RDONLY)
  os.dup2(null, 0)
  logging.disable(logging.WARNING)
  signal.signal(signal.SIGVTALRM, _out_of_time)
  # Ctrl-C at the terminal is for the parent, which closes the pipe.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  settings = json_frames.read(stdin.read)
  # Nested functions of large numbers exhaust memory before any time is up.
  resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
  # A core file of every worker that dies would fill the disk.
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  module = importlib.import_module(HANDLERS[settings['handler']])
  handler = module.make_handler(**settings['options'])
  stdout.write(json_frames.pack({'ready': True}))
  stdout.flush()
  while True:
    try:
      job = json_frames.read(stdin.read)
    except EOFError:
      sys.exit(0)
    reply = answer(handler, job, settings['cpu_seconds'])
    stdout.write(json_frames.pack(reply))
    stdout.flush()


if __name__ == '__main__':
  main()
