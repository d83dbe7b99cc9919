"""Benchmarks by name: `python -m experiments.benchmark reward [flags]`."""

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
    print(f'usage: python -m experiments.benchmark {{{",".join(BENCHMARKS)}}}')
    return 0 if name in ('-h', '--help') else 2
  # Only the chosen one: each needs packages that the others do not.
  return importlib.import_module(BENCHMARKS[name]).main(arguments[1:])


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
