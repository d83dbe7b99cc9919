"""Contests: several programs do the same work in turns, in one run.

Each contestant is a process of its own, with its own interpreter, that waits
while the others work; so all of them meet the same machine, and the peak of
each one's memory is its own. On a busy machine compare CPU seconds.
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import time

from experiments.benchmarks import serving

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_MIB = 2**20


@dataclasses.dataclass
class Result:
  """What a contestant's runs cost.

  Attributes:
    cpu: seconds of the process, a run each.
    wall: seconds that passed.
    peak: largest resident memory during a run, bytes.
    libraries: resident memory before there were weights.
  """

  cpu: list[float] = dataclasses.field(default_factory=list)
  wall: list[float] = dataclasses.field(default_factory=list)
  peak: list[int] = dataclasses.field(default_factory=list)
  libraries: list[int] = dataclasses.field(default_factory=list)

  @property
  def median(self) -> float:
    """Of the CPU seconds."""
    return statistics.median(self.cpu)


class _Contestant:
  def __init__(self, name: str, command: Sequence[str], threads: int):
    self.name = name
    environment = os.environ | {
      'JAX_PLATFORMS': os.environ.get('JAX_PLATFORMS', 'cpu'),
      'OMP_NUM_THREADS': str(threads),
      'TOKENIZERS_PARALLELISM': 'false',
      'HF_HUB_OFFLINE': '1',
    }
    self._process = subprocess.Popen(
      command,
      cwd=_ROOT,
      env=environment,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )

  def ask(self, request: str | None = None) -> dict | None:
    """The next answer; None, and why on the screen, if it has ended."""
    if request is not None:
      with contextlib.suppress(BrokenPipeError):  # said below
        self._process.stdin.write(request + '\n')
        self._process.stdin.flush()
    last = 'no message'
    for line in self._process.stdout:
      if line.startswith(serving.MARK):
        return json.loads(line.removeprefix(serving.MARK))
      last = line.strip() or last
    print(f'{self.name} ended: {last}')
    return None

  def close(self) -> None:
    """Ends the process."""
    self._process.kill()
    self._process.communicate()


def hold(
  commands: Mapping[str, Sequence[str]], repeats: int, threads: int = 1
) -> dict[str, Result]:
  """Lets contestants run in turns, after one run each that does not count.

  Args:
    commands: of each contestant, by name.
    repeats: runs of each that count.
    threads: that each may use where it can be told.

  Returns:
    A result for each contestant that could run; why others could not is
    printed.
  """
  contestants, results = {}, {}
  try:
    for name, command in commands.items():
      contestant = contestants[name] = _Contestant(name, command, threads)
      start = time.perf_counter()
      if contestant.ask() and contestant.ask('run'):
        results[name] = Result()
        seconds = time.perf_counter() - start
        print(f'{name}: ready after {seconds:.0f} s', flush=True)
    for _ in range(repeats):
      for name in list(results):
        record = contestants[name].ask('run')
        if record is None:
          del results[name]
          continue
        for field, values in vars(results[name]).items():
          values.append(record[field])
  finally:
    for contestant in contestants.values():
      contestant.close()
  return results


def print_table(
  results: Mapping[str, Result], tokens: int, floats: float, ceiling: float
) -> None:
  """Prints what each contestant reached.

  Args:
    results: from `hold`.
    tokens: that count, in a run.
    floats: FLOPs that the work needs, in a run.
    ceiling: the machine's FLOPs a CPU second, from `ceilings`.
  """
  print(
    '| | CPU seconds (least to most) | wall | tokens a CPU second | of the '
    'matmul ceiling | peak MiB | above the libraries |\n' + '|---' * 7 + '|'
  )
  for name, result in results.items():
    rate = floats / result.median / ceiling
    peak = max(result.peak)
    print(
      f'| {name} | {result.median:.2f} ({min(result.cpu):.2f} to '
      f'{max(result.cpu):.2f}) | {statistics.median(result.wall):.2f} | '
      f'{tokens / result.median:.0f} | {rate:.0%} | {peak / _MIB:.0f} | '
      f'{(peak - min(result.libraries)) / _MIB:.0f} |'
    )


def print_ratios(results: Mapping[str, Result], ours: str) -> None:
  """Prints the others' CPU seconds and memory as multiples of `ours`."""
  if ours not in results:
    return
  base = results[ours]
  for name, result in results.items():
    if name != ours:
      above = max(base.peak) - min(base.libraries)
      theirs = max(result.peak) - min(result.libraries)
      print(
        f'{name}: {result.median / base.median:.2f} x the CPU seconds of '
        f'{ours}, whose memory is {above / theirs:.0%} of its'
      )
