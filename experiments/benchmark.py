"""Benchmarks by name: `python -m experiments.benchmark rollout [flags]`.

  rollout       episodes of two attempts beside Hugging Face and Tunix
  update        an update beside torch, Hugging Face's model and TRL
  step          where the time of a training step goes
  scaling       cost over rows, lengths, layers and devices
  reward        gradings a second, pathological answers among them
  gemma_import  memory and time of reading a checkpoint
  gemma_memory  memory and time of Gemma 3 270M's episode and update

Each says more with --help; RESULTS.md has what they found.
"""

import importlib
import sys

BENCHMARKS = {
  'gemma_import': 'experiments.benchmarks.gemma_import',
  'rollout': 'experiments.benchmarks.rollout',
  'scaling': 'experiments.benchmarks.scaling',
  'step': 'experiments.benchmarks.step',
  'update': 'experiments.benchmarks.update',
  'gemma_memory': 'experiments.benchmarks.gemma_memory',
  'reward': 'experiments.benchmarks.reward',
}


def main(arguments: list[str]) -> int:
  """Runs the benchmark that the first argument names."""
  name = arguments[0] if arguments else ''
  if name not in BENCHMARKS:
    print(__doc__)
    return 0 if name in ('-h', '--help') else 2
  # Only the chosen one: each needs packages that the others do not.
  return importlib.import_module(BENCHMARKS[name]).main(arguments[1:])


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
