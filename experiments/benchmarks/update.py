"""One update beside torch with Hugging Face's model, and beside TRL's step.

    python -m experiments.benchmark update --peers=PEERS/bin/python

The same sequences and sizes of a random Gemma-2-like model, f32. `ours` has the
reference's forward pass and the exact KL, as TRL has its reference's and the
estimated one; with length buckets it cuts micro-batches of short sequences to
one of four lengths. `ours without reference` does what bare torch does:
forward, log-probabilities of attempts, backward, Adam. PEERS is a virtual
environment with requirements-peers.txt; without it ours is measured alone.

On a GPU, where it has not been run, with CUDA builds of jax and of torch; times
are seconds then:

    JAX_PLATFORMS=cuda,cpu python -m experiments.benchmark update \
      --model=gemma-3-1b --rows=16 --prompt=256 --limit=256 \
      --peers=PEERS/bin/python
"""

from collections.abc import Sequence

from experiments.benchmarks import ceilings, side_by_side, workload
from experiments.config import command_line


def main(arguments: Sequence[str] | None = None) -> int:
  """Measures, prints tables, returns the exit code."""
  settings = command_line.parse(
    side_by_side.Settings,
    arguments,
    program='experiments.benchmark update',
    document=__doc__,
  ).reduced()
  work = settings.work()
  ceiling, _ = ceilings.measure()
  print(
    f'{work.rows} rows of {work.length} tokens; ceiling of a core: '
    f'{ceiling / 1e9:.0f} GFLOP/s (f32 products)'
  )
  results = side_by_side.run_in_turns(
    commands(settings.peers, work), settings.repeats
  )
  tokens = int(work.attempt_lengths().sum())
  for group, reference in (
    (('ours', 'ours, length buckets', 'TRL'), True),
    (('ours without reference', 'bare torch'), False),
  ):
    part = {name: results[name] for name in group if name in results}
    floats = work.update_floats(reference)
    side_by_side.print_table(part, tokens, floats, ceiling)
  return 0


def commands(
  peers: str | None, work: workload.Workload
) -> dict[str, list[str]]:
  """How to start each program, by name."""
  command = side_by_side.command
  found = {
    'ours': command('ours', 'update', work),
    'ours, length buckets': command('ours', 'length_buckets', work),
    'ours without reference': command('ours', 'supervised', work),
  }
  if peers:
    found['TRL'] = command('trl_trainer', 'update', work, peers)
    found['bare torch'] = command('hugging_face', 'update', work, peers)
  return found
