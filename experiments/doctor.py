"""Checks sandboxes, graders and devices: `python -m experiments.doctor`.

Exits with code 3 where the accelerator that JAX_PLATFORMS names (launch/with.sh
sets it) does not start, with 2 where no sandbox holds programs of a model, else
with 0.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import os
import platform
import shutil
import sys
import time
from typing import Literal

from experiments.config import command_line
from score_jax import types
from score_jax.grading import code_grading, math_grading
from score_jax.grading.sandbox import launch, probe, restrict


@dataclasses.dataclass(frozen=True)
class Settings:
  """Checks sandboxes, graders and devices of this machine."""

  sandbox: Literal['auto', 'bwrap', 'landlock'] = 'auto'
  """Sandbox to try; auto tries all."""
  devices: bool = True
  """Whether to look for accelerators, which starts jax."""
  directory: str = '.'
  """Directory of runs; its free disk space is printed."""


def main(settings: Settings) -> int:
  """Prints the findings; returns the exit code."""
  for line in _machine(settings):
    print(line)
  no_devices = _report_devices() if settings.devices else ''
  kinds = ('bwrap', 'landlock')
  if settings.sandbox != 'auto':
    kinds = (settings.sandbox,)
  holding = [kind for kind in kinds if _report_sandbox(kind)]
  _report_math()
  if not holding:
    try:
      probe.choose(settings.sandbox)
    except probe.NoSandboxError as error:
      print(f'\nNo code rewards on this machine: {error}')
  else:
    _report_code(holding[0])
  if no_devices:
    print(f'\nNo accelerator: {no_devices}')
    return 3
  return 0 if holding else 2


def _machine(settings: Settings) -> Iterator[str]:
  yield f'python     {platform.python_version()}, {sys.executable}'
  yield f'system     {platform.platform()}, {os.cpu_count()} cores'
  free = shutil.disk_usage(settings.directory).free / 2**30
  directory = os.path.abspath(settings.directory)
  yield f'disk       {free:.1f} GiB free in {directory}'


def _report_devices() -> str:
  """Prints the devices; returns why there are none, or nothing."""
  # Starting jax takes seconds, and the rest is useful without it.
  import jax

  from experiments.run import layouts, run_directory

  try:
    devices = layouts.devices()
  except run_directory.RunError as error:
    print('devices    none (see below)')
    return str(error)
  kinds = ', '.join(sorted({device.device_kind for device in devices}))
  print(f'devices    {len(devices)} x {kinds} (jax {jax.__version__})')
  return ''


def _report_sandbox(kind: str) -> bool:
  """Prints the probe line by line; returns whether the sandbox holds."""
  note = f'Landlock ABI {restrict.landlock_version()}'
  found = shutil.which('bwrap') or 'bwrap is not installed'
  print(f'\nsandbox {kind} ({note if kind == "landlock" else found})')
  for python in launch.interpreters():
    lines = probe.probe(launch.Sandbox(kind, python))
    for line in lines:
      mark = 'ok  ' if line.held else 'LEAK'
      detail = '' if line.held else f': {line.detail}'
      print(f'  {mark} {line.name}{detail}')
    if all(line.held for line in lines):
      print(f'  holds, with {python}')
      return True
  return False


def _report_math() -> None:
  start = time.monotonic()
  with contextlib.closing(math_grading.MathGrader(workers=1)) as grader:
    [verdict] = grader.grade_answers(['(x+1)^2'], ['x^2+2x+1'])
  seconds = time.monotonic() - start
  print(
    f'\nmath grader   (x+1)^2 = x^2+2x+1 is {verdict.label}, {seconds:.1f} s'
  )


def _report_code(kind: str) -> None:
  tests = ['assert f(2) == 4', 'assert f(3) == 9']
  columns = {'tests': tests, 'entry_point': 'f'}
  problem = types.Problem('square', 'doctor', '', '', columns)
  with contextlib.closing(
    code_grading.CodeGrader(sandbox=kind, workers=1)
  ) as grader:
    attempts = [types.Attempt('def f(x): return x * x')]
    [verdict] = grader.grade([problem], attempts, extract=False)
  print(
    f'code grader   a right program is {verdict.label}, '
    f'{verdict.seconds:.2f} s, in {kind}'
  )


if __name__ == '__main__':
  sys.exit(
    main(
      command_line.parse(
        Settings, program='experiments.doctor', document=__doc__
      )
    )
  )
