"""Runs a benchmark by name: `python -m experiments.benchmark rollout [flags]`.

  rollout       episodes of two attempts beside Hugging Face and Tunix
  update        an update beside torch, Hugging Face's model and TRL
  decode        the TPU compiler's estimate of the decode loop
  step          where the time of a training step goes
  scaling       cost over sequences, lengths, layers and devices
  reward        gradings a second, pathological answers among them
  gemma_import  memory and time of reading a checkpoint
  gemma_memory  memory and time of Gemma 3 270M's episode and update

Each says more with --help; RESULTS.md has the results.
"""

import importlib
import sys

_NAMES = (
  *('rollout', 'update', 'decode', 'step', 'scaling', 'reward'),
  *('gemma_import', 'gemma_memory'),
)


def main(arguments: list[str]) -> int:
  """Runs the benchmark that the first argument names."""
  name = arguments[0] if arguments else ''
  if name not in _NAMES:
    print(__doc__)
    return 0 if name in ('-h', '--help') else 2
  # Only the chosen one: each needs packages that the others do not.
  module = importlib.import_module(f'experiments.benchmarks.{name}')
  return module.main(arguments[1:])


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
