"""Two-attempt episodes beside Hugging Face's `generate` and Tunix's sampler.

    python -m experiments.benchmark rollout --peers=PEERS/bin/python

The same random Gemma-2-like weights, prompts and limits, and attempts that end
where they are told to.
Only tokens of attempts count. A peer's batch runs for as long as its longest
attempt, as ours does; its second prompts hold the first attempts, given to it
as ids. PEERS is a virtual environment with requirements-peers.txt; without it
ours is measured alone.

On a GPU, where it has not been run, with CUDA builds of jax and of torch; times
are seconds then:

    JAX_PLATFORMS=cuda,cpu python -m experiments.benchmark rollout \
      --model=gemma-3-1b --rows=256 --prompt=256 --limit=256 --dtypes bfloat16 \
      --peers=PEERS/bin/python
"""

from collections.abc import Sequence
import dataclasses
import sys
from typing import Annotated, Literal

import tyro

from experiments.benchmarks import ceilings, side_by_side, workload
from experiments.config import command_line

_OURS = {
  'ours': 'rollout',
  'shrinking': 'shrinking',
  'batches': 'batches',
  'refilling': 'refilling',
}


@dataclasses.dataclass(frozen=True)
class Settings(side_by_side.Settings):
  """Measures episodes."""

  rows: int = 64
  """Episodes at a time, eight of a problem."""
  dtypes: tuple[str, ...] = ('float32', 'bfloat16')
  """Of the weights; on a CPU, activations are float32 in ours."""
  lengths: Literal['geometric', 'math'] = 'geometric'
  """Of attempts: geometric, a third of the limit on average; or those of MATH's
  reference solutions, scaled to the limit."""
  at_once: int | None = None
  """Sequences that `batches` and `refilling` decode at a time; None: half."""
  programs: Annotated[tuple[str, ...], tyro.conf.arg(name='contestants')] = (
    'ours',
    'shrinking',
    'dynamic',
    'static',
    'tunix',
  )
  """ours (shrinking: sequences that have ended leave, three times; batches: a
  part of the sequences after the other, which leave twice; refilling: sequences
  take the rows of those that are complete) and the baselines: Hugging Face with
  a dynamic or a static cache, tunix."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Measures, prints a table, returns the exit code."""
  settings = command_line.parse(
    Settings,
    arguments,
    program='experiments.benchmark rollout',
    document=__doc__,
  ).reduced()
  work = dataclasses.replace(
    settings.work(), lengths=settings.lengths, at_once=settings.at_once
  )
  at_once = settings.at_once
  if at_once and (work.rows % at_once or at_once % work.samples):
    print(
      f'error: --at-once={at_once}: a multiple of {work.samples} that '
      f'divides --rows={work.rows}',
      file=sys.stderr,
    )
    return 2
  matmul, copy = ceilings.measure()
  lengths = work.attempt_lengths()
  steps = int(lengths.max(axis=0).sum())
  print(
    f'{work.rows} rows, prompt {work.prompt}, attempts of {lengths.mean():.1f} '
    f'tokens on average ({work.limit} at most), {steps} decode steps\n'
    f'ceilings of a core: {matmul / 1e9:.0f} GFLOP/s (f32 products), '
    f'{copy / 1e9:.1f} GB/s (copies); the weights alone, read once a step: '
    f'{4 * work.weights * steps / copy:.2f} s in f32'
  )
  results = side_by_side.run_in_turns(
    commands(settings, work), settings.repeats
  )
  side_by_side.print_table(
    results, int(lengths.sum()), work.rollout_floats(), matmul
  )
  return 0


def commands(
  settings: Settings, work: workload.Workload
) -> dict[str, list[str]]:
  """How to start each program, by name; without peers ours alone."""
  found = {}
  for dtype in settings.dtypes:
    job = dataclasses.replace(work, dtype=dtype)
    for name in settings.programs:
      if name in _OURS:
        words = side_by_side.command('ours', _OURS[name], job)
      elif settings.peers is None:
        continue
      elif name == 'tunix':
        words = side_by_side.command(
          'tunix_sampler', 'rollout', job, settings.peers
        )
      else:
        words = side_by_side.command('hugging_face', name, job, settings.peers)
      found[f'{name} {dtype}'] = words
  return found
