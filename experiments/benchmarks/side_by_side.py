"""Runs several programs side by side: they do the same work in turns.

Each is a process of its own, with its own interpreter, that waits while the
others work; so all of them meet the same machine, and the peak of each one's
memory is its own. On a busy machine compare CPU seconds.
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

from experiments.benchmarks import serving, workload
from score_jax.interop import checkpoint_formats, hugging_face_description

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Settings:
  """What benchmarks beside peers have in common."""

  peers: str | None = None
  """Interpreter of an environment with requirements-peers.txt."""
  rows: int = 16
  """Episodes at a time, eight of a problem."""
  prompt: int = 64
  """Tokens of a prompt."""
  limit: int = 64
  """Most tokens of an attempt."""
  layers: int = 8
  """Of the model: 32.5M parameters with 8."""
  model: str | None = None
  """A published one, such as gemma-3-1b: its shape, all of its layers, and
  random weights."""
  repeats: int = 3
  """Runs of each that count."""
  quick: bool = False
  """A small model and short attempts: whether it works, not how fast."""

  def reduced(self) -> 'Settings':
    """The settings, smaller if `quick`."""
    if not self.quick:
      return self
    return dataclasses.replace(
      self, rows=16, prompt=16, limit=16, layers=2, repeats=1
    )

  def work(self) -> workload.Workload:
    """The work that all programs are given."""
    work = workload.Workload(
      rows=self.rows, prompt=self.prompt, limit=self.limit, layers=self.layers
    )
    if self.model is None:
      return work
    config = checkpoint_formats.named_config(self.model)
    architecture = hugging_face_description.describe(
      config, rows=config.vocab_size, dtype=np.float32
    )
    return dataclasses.replace(
      work,
      layers=config.num_layers,
      width=config.width,
      heads=config.num_heads,
      kv_heads=config.num_kv_heads,
      head_dim=config.head_dim,
      mlp=config.mlp_width,
      vocab=config.vocab_size,
      architecture=architecture,
    )


@dataclasses.dataclass
class Result:
  """What a program's runs cost, an entry for each.

  Attributes:
    cpu: CPU seconds of the process.
    wall: seconds that passed.
    peak: largest resident memory during a run, bytes.
    libraries: resident memory before there were weights, bytes.
    device: most memory of the accelerator so far, bytes; empty without one.
  """

  cpu: list[float] = dataclasses.field(default_factory=list)
  wall: list[float] = dataclasses.field(default_factory=list)
  peak: list[int] = dataclasses.field(default_factory=list)
  libraries: list[int] = dataclasses.field(default_factory=list)
  device: list[int] = dataclasses.field(default_factory=list)

  @property
  def median(self) -> float:
    """Median CPU seconds of a run."""
    return statistics.median(self.cpu)

  @property
  def memory(self) -> int:
    """Bytes at the peak beyond the libraries."""
    return max(self.peak) - min(self.libraries)


class _Program:
  """A process that `serving.serve` runs in."""

  def __init__(self, name: str, command: Sequence[str]):
    self.name = name
    environment = os.environ | {
      'JAX_PLATFORMS': os.environ.get('JAX_PLATFORMS', 'cpu'),
      'OMP_NUM_THREADS': '1',
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
    """The next answer; None, with the reason printed, if it has ended."""
    if request is not None:
      with contextlib.suppress(BrokenPipeError):  # reported below
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


def command(
  baseline: str,
  kind: str,
  work: workload.Workload,
  python: str = sys.executable,
) -> list[str]:
  """How to start a program of experiments/benchmarks/baselines.

  Args:
    baseline: its module.
    kind: what it is to do.
    work: sizes of the work.
    python: interpreter of the environment that it needs.
  """
  module = f'experiments.benchmarks.baselines.{baseline}'
  return [python, '-m', module, kind, work.to_json()]


def run_in_turns(
  commands: Mapping[str, Sequence[str]], repeats: int
) -> dict[str, Result]:
  """Runs programs in turns, after one run each that does not count.

  Args:
    commands: how to start each program, by name.
    repeats: runs of each that count.

  Returns:
    A result for each program that could run; why others could not is printed.
  """
  programs, results = {}, {}
  try:
    for name, words in commands.items():
      program = programs[name] = _Program(name, words)
      start = time.perf_counter()
      if program.ask() and program.ask('run'):
        results[name] = Result()
        seconds = time.perf_counter() - start
        print(f'{name}: ready after {seconds:.0f} s', flush=True)
    for _ in range(repeats):
      for name in list(results):
        record = programs[name].ask('run')
        if record is None:
          del results[name]
          continue
        for field, value in record.items():
          getattr(results[name], field).append(value)
  finally:
    for program in programs.values():
      program.close()
  return results


def print_table(
  results: Mapping[str, Result], tokens: int, floats: float, ceiling: float
) -> None:
  """Prints a table of costs, and the others as multiples of the first.

  On an accelerator it is of seconds and of its memory.

  Args:
    results: from `run_in_turns`, ours first.
    tokens: that count, in a run.
    floats: FLOPs that the work needs, in a run.
    ceiling: the machine's FLOPs a CPU second, from `ceilings`.
  """
  if any(result.device for result in results.values()):
    _print_accelerated(results, tokens, floats)
    return
  print(
    '| | CPU seconds (least to most) | wall | tokens a CPU second | of the '
    'matmul ceiling | peak MiB | above the libraries |\n' + '|---' * 7 + '|'
  )
  for name, result in results.items():
    rate = floats / result.median / ceiling
    print(
      f'| {name} | {result.median:.2f} ({min(result.cpu):.2f} to '
      f'{max(result.cpu):.2f}) | {statistics.median(result.wall):.2f} | '
      f'{tokens / result.median:.0f} | {rate:.0%} | '
      f'{max(result.peak) / _MIB:.0f} | {result.memory / _MIB:.0f} |'
    )
  ours = next(iter(results), None)
  for name in list(results)[1:]:
    base, result = results[ours], results[name]
    print(
      f'{name}: {result.median / base.median:.2f} x the CPU seconds of '
      f'{ours}, whose memory is {base.memory / result.memory:.0%} of its'
    )


def _print_accelerated(results, tokens, floats):
  print(
    '| | seconds (least to most) | tokens a second | TFLOP/s | MiB of the '
    'accelerator |\n' + '|---' * 5 + '|'
  )
  for name, result in results.items():
    seconds = statistics.median(result.wall)
    print(
      f'| {name} | {seconds:.3f} ({min(result.wall):.3f} to '
      f'{max(result.wall):.3f}) | {tokens / seconds:.0f} | '
      f'{floats / seconds / 1e12:.1f} | {max(result.device) / _MIB:.0f} |'
    )
  ours = next(iter(results))
  for name in list(results)[1:]:
    base, result = results[ours], results[name]
    times = statistics.median(result.wall) / statistics.median(base.wall)
    print(
      f'{name}: {times:.2f} x the seconds of {ours}, whose memory is '
      f'{max(base.device) / max(result.device):.0%} of its'
    )
