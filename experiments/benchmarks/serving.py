"""A baseline's process: runs its work each time that it is asked to.

Imports neither jax nor torch. Requests are lines on stdin; answers are lines on
stdout that start with `MARK`, so that other prints of libraries do not matter.
"""

from collections.abc import Callable
import ctypes.util
import json
import sys
import time

from experiments.benchmarks import process_memory

MARK = '@@'


def serve(
  make: Callable[[], Callable[[], None]],
  device_peak: Callable[[], int | None] = lambda: None,
) -> None:
  """Answers each line on stdin with the cost of one run, until stdin ends.

  Args:
    make: called once, with nothing but libraries in memory; what it returns
      does the work once, and returns when it is done.
    device_peak: most bytes of the accelerator's memory so far; None without.
  """
  _return_freed()
  libraries = process_memory.now()
  run = make()
  _answer({'ready': True})
  for _ in sys.stdin:
    _return_freed()
    process_memory.forget_peak()
    cpu, start = time.process_time(), time.perf_counter()
    run()
    record = {
      'wall': time.perf_counter() - start,
      'cpu': time.process_time() - cpu,
      'peak': process_memory.peak(),
      'libraries': libraries,
    }
    if (device := device_peak()) is not None:
      record['device'] = device
    _answer(record)


def _answer(record):
  print(MARK + json.dumps(record), flush=True)


def _return_freed():
  """Returns freed memory, such as a compiler's, to the system; glibc only."""
  library = ctypes.util.find_library('c')
  if library and hasattr(trim := ctypes.CDLL(library), 'malloc_trim'):
    trim.malloc_trim(0)
