"""One update beside torch with Hugging Face's model, and beside TRL's step.

    python -m experiments.benchmark update --peers=PEERS/bin/python

The same rows and sizes of a random Gemma-2-like model, f32. `ours` has the
reference's forward pass and the exact KL, as TRL has its reference's and the
estimated one; with length buckets it cuts micro-batches of short rows to one of
four lengths. `ours without reference` does what bare torch does: forward,
log-probabilities of attempts, backward, Adam. PEERS is a virtual environment
with requirements-peers.txt; without it ours is measured alone.
"""

from collections.abc import Sequence
import dataclasses
import sys

from experiments.benchmarks import ceilings, side_by_side, workload
from experiments.config import command_line

_BASELINES = 'experiments.benchmarks.baselines'


@dataclasses.dataclass(frozen=True)
class Settings:
  """Measures updates."""

  peers: str | None = None
  """Interpreter of an environment with requirements-peers.txt."""
  rows: int = 16
  """Episodes in an update, eight of a problem."""
  prompt: int = 64
  """Tokens of a prompt."""
  limit: int = 64
  """Most tokens of an attempt."""
  layers: int = 8
  """Of the model: 32.5M parameters with 8."""
  repeats: int = 3
  """Runs of each that count."""
  quick: bool = False
  """A small model and short attempts: whether it works, not how fast."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Measures, prints tables, returns the exit code."""
  settings = command_line.parse(
    Settings,
    arguments,
    program='experiments.benchmark update',
    document=__doc__,
  )
  if settings.quick:
    settings = dataclasses.replace(
      settings, prompt=16, limit=16, layers=2, repeats=1
    )
  work = workload.Workload(
    rows=settings.rows,
    prompt=settings.prompt,
    limit=settings.limit,
    layers=settings.layers,
  )
  ceiling, _ = ceilings.measure()
  print(
    f'{work.rows} rows of {work.length} tokens; ceiling of a core: '
    f'{ceiling / 1e9:.0f} GFLOP/s (f32 products)'
  )
  results = side_by_side.hold(commands(settings.peers, work), settings.repeats)
  tokens = int(work.attempt_lengths().sum())
  for group, reference in (
    (('ours', 'ours, length buckets', 'TRL'), True),
    (('ours without reference', 'bare torch'), False),
  ):
    part = {name: results[name] for name in group if name in results}
    floats = work.update_floats(reference)
    side_by_side.print_table(part, tokens, floats, ceiling)
    side_by_side.print_ratios(part, group[0])
  return 0


def commands(
  peers: str | None, work: workload.Workload
) -> dict[str, list[str]]:
  """How to start each contestant, by name."""
  job = work.to_json()
  ours = [sys.executable, '-m', f'{_BASELINES}.ours']
  found = {
    'ours': [*ours, 'update', job],
    'ours, length buckets': [*ours, 'length_buckets', job],
    'ours without reference': [*ours, 'supervised', job],
  }
  if peers:
    found['TRL'] = [peers, '-m', f'{_BASELINES}.trl_trainer', 'update', job]
    found['bare torch'] = [
      *(peers, '-m', f'{_BASELINES}.hugging_face'),
      *('update', job),
    ]
  return found
