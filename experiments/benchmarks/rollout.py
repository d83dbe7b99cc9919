"""Two-attempt episodes beside Hugging Face's `generate` and Tunix's sampler.

    python -m experiments.benchmark rollout --peers=PEERS/bin/python

The same random Gemma-2-like weights, prompts and limits, and attempts that end
where they are told to (geometric lengths, a third of the limit on average).
Only tokens of attempts count. A peer's batch runs for as long as its longest
attempt, as ours does; its second prompts hold the first attempts, given to it
as ids. PEERS is a virtual environment with requirements-peers.txt; without it
ours is measured alone.
"""

from collections.abc import Sequence
import dataclasses
import sys

from experiments.benchmarks import ceilings, side_by_side, workload
from experiments.config import command_line

_BASELINES = 'experiments.benchmarks.baselines'
_OURS = {'ours': 'rollout', 'shrinking': 'shrinking'}


@dataclasses.dataclass(frozen=True)
class Settings:
  """Measures episodes."""

  peers: str | None = None
  """Interpreter of an environment with requirements-peers.txt."""
  rows: int = 64
  """Episodes at a time, eight of a problem."""
  prompt: int = 64
  """Tokens of a prompt."""
  limit: int = 64
  """Most tokens of an attempt."""
  layers: int = 8
  """Of the model: 32.5M parameters with 8."""
  dtypes: tuple[str, ...] = ('float32', 'bfloat16')
  """Of the weights; activations are float32 in ours."""
  contestants: tuple[str, ...] = (
    *_OURS,
    *('dynamic', 'static', 'tunix'),
  )
  """ours (shrinking: finished rows leave the batch), Hugging Face with a
  dynamic or a static cache, tunix."""
  repeats: int = 3
  """Runs of each that count."""
  quick: bool = False
  """A small model and short attempts: whether it works, not how fast."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Measures, prints a table, returns the exit code."""
  settings = command_line.parse(
    Settings,
    arguments,
    program='experiments.benchmark rollout',
    document=__doc__,
  )
  if settings.quick:
    settings = dataclasses.replace(
      settings, rows=16, prompt=16, limit=16, layers=2, repeats=1
    )
  work = workload.Workload(
    rows=settings.rows,
    prompt=settings.prompt,
    limit=settings.limit,
    layers=settings.layers,
  )
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
  results = side_by_side.hold(commands(settings, work), settings.repeats)
  side_by_side.print_table(
    results, int(lengths.sum()), work.rollout_floats(), matmul
  )
  side_by_side.print_ratios(results, next(iter(results), ''))
  return 0


def commands(
  settings: Settings, work: workload.Workload
) -> dict[str, list[str]]:
  """How to start each contestant, by name."""
  found = {}
  for dtype in settings.dtypes:
    job = dataclasses.replace(work, dtype=dtype).to_json()
    for name in settings.contestants:
      if name in _OURS:
        module = f'{_BASELINES}.ours'
        command = [sys.executable, '-m', module, _OURS[name], job]
      elif settings.peers is None:
        continue
      elif name == 'tunix':
        module = f'{_BASELINES}.tunix_sampler'
        command = [settings.peers, '-m', module, 'rollout', job]
      else:
        module = f'{_BASELINES}.hugging_face'
        command = [settings.peers, '-m', module, name, job]
      found[f'{name} {dtype}'] = command
  return found
