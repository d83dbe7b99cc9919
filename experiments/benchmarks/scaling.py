"""How the cost of rollout and update grows, one size at a time.

    python -m experiments.benchmark scaling

Each size is doubled twice while the others stay. The exponent is the slope of
log cost over log size: 1 is linear; attention over longer sequences pushes it
above, fixed costs below. Devices are virtual ones on the same cores and share
the same sequences, so that their exponent should be 0.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from experiments.benchmarks import side_by_side, workload
from experiments.config import command_line

_BASE = workload.Workload(
  rows=16, prompt=16, limit=16, layers=2, width=256, mlp=1024
)
_SIZES = ('rows', 'limit', 'layers', 'devices')


@dataclasses.dataclass(frozen=True)
class Settings:
  """Measures growth."""

  sizes: tuple[str, ...] = _SIZES
  """Some of rows, limit (tokens of an attempt), layers, devices."""
  programs: tuple[str, ...] = ('rollout', 'update')
  """Programs to measure; devices are measured for the update alone."""
  doublings: int = 2
  """Of each size."""
  repeats: int = 5
  """Runs that count."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Measures, prints a line for each size, returns the exit code."""
  settings = command_line.parse(
    Settings,
    arguments,
    program='experiments.benchmark scaling',
    document=__doc__,
  )
  for program in settings.programs:
    for size in settings.sizes:
      if size == 'devices' and program != 'update':
        continue
      values = [getattr(_BASE, size) * 2**i for i in range(settings.doublings)]
      values.append(values[-1] * 2)
      commands = {
        f'{size}={value}': _command(program, size, value) for value in values
      }
      results = side_by_side.run_in_turns(commands, settings.repeats)
      costs = [min(result.cpu) for result in results.values()]
      if len(costs) < len(values):
        return 1
      slope = np.polyfit(np.log(values), np.log(costs), 1)[0]
      pairs = ', '.join(
        f'{value}: {1000 * cost:.0f} ms'
        for value, cost in zip(values, costs, strict=True)
      )
      print(f'{program}, {size}: {pairs}; exponent {slope:.2f}', flush=True)
  return 0


def _command(program: str, size: str, value: int) -> list[str]:
  work = dataclasses.replace(_BASE, **{size: value})
  flag = f'--xla_force_host_platform_device_count={work.devices}'
  words = side_by_side.command('ours', program, work)
  return ['env', f'XLA_FLAGS={flag}', *words]
