"""Resident memory of this process, as the operating system counts it.

Imports neither jax nor torch, since baselines of either kind use it.
"""

from collections.abc import Callable
import contextlib
import multiprocessing
import pathlib
import resource
from typing import Any

_STATUS = pathlib.Path('/proc/self/status')


def now() -> int:
  """Bytes resident now; 0 where the system does not say."""
  return _read('VmRSS') or 0


def peak() -> int:
  """Most bytes that were ever resident, or since `forget_peak`."""
  usage = resource.getrusage(resource.RUSAGE_SELF)
  return _read('VmHWM') or usage.ru_maxrss * 1024


def forget_peak() -> None:
  """Starts the peak anew, where Linux allows it."""
  with contextlib.suppress(OSError):
    pathlib.Path('/proc/self/clear_refs').write_text('5')


def run_alone(function: Callable[..., None], *arguments: Any) -> None:
  """Runs a function in a new process, so that its peak is its own.

  Raises:
    SystemExit: the process failed.
  """
  process = multiprocessing.get_context('spawn').Process(
    target=function, args=arguments
  )
  process.start()
  process.join()
  if process.exitcode:
    raise SystemExit(
      f'{function.__name__} ended with {process.exitcode}; -9 usually means '
      'that the memory did not suffice'
    )


def _read(name: str) -> int | None:
  if not _STATUS.is_file():
    return None
  lines = dict(x.split(':', 1) for x in _STATUS.read_text().splitlines())
  return int(lines[name].split()[0]) * 1024
