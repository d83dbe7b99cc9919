"""The TPU compiler's own estimate of the decode loop, without a TPU.

    python -m experiments.benchmark decode --topology=v5p-8 \
      --preset=gemma2_2b_math

Compiles a preset's episode for a slice, as runs do, and adds up the
`estimated_cycles` that the compiler writes beside each fusion and product of
the loop that draws a token. It is no speed: scatters, plain slice updates,
collectives and copies between memories have no estimate, so that their numbers
are printed beside. Where attention chooses one of several prefixes of the
cache, the cycles of each choice are printed, shortest first. Beside them stands
the time that reading the weights and those keys and values takes at full
bandwidth.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import re
import time

import jax
import numpy as np

from experiments.config import command_line
from experiments.planning import chips, programs, roofline, workload
from experiments.planning import memory as memory_lib

# Clock of a chip, from its peak: 459e12 is 2 x 4 units of 128 x 128 products.
_HERTZ = {'v4': 1.05e9, 'v5e': 1.5e9, 'v5p': 1.75e9, 'v6e': 1.75e9}
_HEAD = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) .*\{$')
_LINE = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\(')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_BODY = re.compile(r'body=%?([\w.\-]+)')
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
_DIMS = re.compile(r'f32\[([\d,]+)\]')


@dataclasses.dataclass(frozen=True)
class Settings:
  """Estimates the decode loop."""

  topology: str = 'v5e-8'
  """The slice, such as v5e-8, v5p-8."""
  layers: int | None = None
  """Compile so many layers alone, quickly. None: all of the model's."""


@dataclasses.dataclass(frozen=True)
class Loop:
  """The compiler's estimate of one pass of a decode loop.

  Attributes:
    rows: sequences of a device.
    cycles: by choice of a prefix of the cache; one where there is no choice.
    scatters: that no estimate counts.
    slices: written, that no estimate counts.
  """

  rows: int
  cycles: tuple[int, ...]
  scatters: int
  slices: int


def main(arguments: Sequence[str] | None = None) -> int:
  """Compiles, prints the loops, returns the exit code."""
  settings, of_train = command_line.parse(
    Settings,
    list(arguments or ()),
    program='experiments.benchmark decode',
    document=__doc__,
    return_unknown_args=True,
  )
  jax.config.update('jax_platforms', 'cpu')
  chip, devices = chips.find(settings.topology)
  work = workload.make(command_line.parse_settings(of_train), devices)
  if settings.layers is not None:
    config = dataclasses.replace(work.model.config, num_layers=settings.layers)
    model = dataclasses.replace(work.model, config=config)
    work = dataclasses.replace(work, model=model)
  start = time.perf_counter()
  compiled = programs.lower_episode(
    work.model, work.sizes, work.rollout_mesh, **work.episode_options
  ).compile()
  peak = compiled.memory_analysis().peak_memory_in_bytes
  print(
    f'{work.model.config.num_layers} layers, compiled in '
    f'{time.perf_counter() - start:.0f} s, {peak / 2**30:.1f} GiB a chip'
  )
  for loop in decode_loops(compiled.as_text(), work.model.config.vocab_size):
    _print(loop, work, chip)
  return 0


def _print(loop, work, chip):
  weights = memory_lib.resident(work)['decode weights']
  print(
    f'{loop.rows} sequences a device: {loop.scatters} scatters and '
    f'{loop.slices} written slices without an estimate'
  )
  for i, cycles in enumerate(loop.cycles, start=1):
    keys = work.sizes.length * i // len(loop.cycles)
    read = roofline.decode_seconds(
      work, chip, weights, np.array([keys]), loop.rows
    )
    print(
      f'  {keys:5} keys: {cycles / 1e6:.2f} M cycles, '
      f'{1e3 * cycles / _HERTZ[chip.name]:.2f} ms; reading them and the '
      f'weights {1e3 * read:.2f} ms'
    )


def decode_loops(text: str, vocabulary: int) -> Iterator[Loop]:
  """The loops of a compiled program that make logits themselves.

  Args:
    text: of the program, by `as_text`.
    vocabulary: V.
  """
  found = _computations(text)
  bodies = {b for lines in found.values() for b in _BODY.findall(str(lines))}
  for name in sorted(bodies):
    rows = [_rows(line, vocabulary) for _, _, line in found[name]]
    if any(rows):
      yield _loop(found, name, max(rows))


def _computations(text) -> Mapping[str, list[tuple[str, str, str]]]:
  """(name, operation, line) of the instructions of each computation."""
  found, lines = {}, []
  for line in text.splitlines():
    if head := _HEAD.match(line):
      lines = found.setdefault(head[1], [])
    elif match := _LINE.match(line):
      lines.append((match[1], match[3], line))
  return found


def _rows(line, vocabulary):
  """B of an array f32 [B, V] that the line makes, 0 if it makes none."""
  for dims in _DIMS.findall(line.split('metadata')[0]):
    sizes = [int(d) for d in dims.split(',')]
    if len(sizes) == 2 and sizes[1] == vocabulary:
      return sizes[0]
  return 0


def _loop(found, name, rows):
  cycles, choices, scatters, slices = 0, [], 0, 0
  for place, operation, line in found[name]:
    if estimate := _CYCLES.search(line):
      cycles += int(estimate[1])
    if operation == 'conditional':
      branches = _BRANCHES.search(line)[1].replace('%', '').split(', ')
      choices.append([_cycles(found[branch]) for branch in branches])
    scatters += 'scatter' in place
    slices += 'dynamic-update-slice' in place + operation
  each = [sum(choice) for choice in zip(*choices, strict=True)] or [0]
  return Loop(rows, tuple(cycles + c for c in each), scatters, slices)


def _cycles(lines):
  return sum(int(c) for _, _, line in lines for c in _CYCLES.findall(line))
