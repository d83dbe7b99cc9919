"""A contestant's side of a contest: runs its work each time it is asked.

Imports neither jax nor torch. Lines on stdin are requests; answers are lines on
stdout that start with `MARK`, so that what libraries print does not matter.
"""

from collections.abc import Callable
import ctypes.util
import json
import pathlib
import resource
import sys
import time

MARK = '@@'


def serve(make: Callable[[], Callable[[], None]]) -> None:
  """Answers each line on stdin with the cost of one run, until stdin ends.

  Args:
    make: called once, with nothing but libraries in memory; what it returns
      does the work once, and returns when it is done.
  """
  return_freed()
  libraries = memory()
  run = make()
  answer({'ready': True})
  for _ in sys.stdin:
    return_freed()
    forget_peak()
    cpu, start = time.process_time(), time.perf_counter()
    run()
    answer(
      {
        'wall': time.perf_counter() - start,
        'cpu': time.process_time() - cpu,
        'peak': memory('VmHWM'),
        'libraries': libraries,
      }
    )


def answer(record: dict) -> None:
  """Prints one record."""
  print(MARK + json.dumps(record), flush=True)


def return_freed() -> None:
  """Gives back what was freed, such as a compiler's memory, if it is glibc."""
  library = ctypes.util.find_library('c')
  if library and hasattr(trim := ctypes.CDLL(library), 'malloc_trim'):
    trim.malloc_trim(0)


def forget_peak() -> None:
  """Lets the process's peak begin again, where Linux allows it."""
  path = pathlib.Path('/proc/self/clear_refs')
  if path.exists():
    path.write_text('5')


def memory(field: str = 'VmRSS') -> int:
  """Resident memory now, or at its peak ('VmHWM'), in bytes."""
  status = pathlib.Path('/proc/self/status')
  if not status.is_file():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  lines = dict(line.split(':', 1) for line in status.read_text().splitlines())
  return int(lines[field].split()[0]) * 1024
