"""A run whose only policy is a checkpoint's, for evaluation without training.

`python -m experiments.evaluate --init-from=PATH --task=math` begins a run
directory of the method `base` and evaluates it, so that reports and comparisons
find it like any other run.
"""

import argparse
from collections.abc import Sequence
import dataclasses

from experiments.config import command_line, schema
from experiments.run import base_model, building, processes, run_directory
from score_jax.interop import hub

_PROGRAM = 'experiments.evaluate'
_METHOD = 'base'


def is_asked_for(arguments: Sequence[str]) -> bool:
  """Whether the command line names a checkpoint instead of a run."""
  return any(a.split('=')[0] == '--init-from' for a in arguments)


def begin(arguments: Sequence[str]) -> list[str]:
  """Begins or reopens the run; returns the arguments left for evaluation.

  Flags of experiments.train are the run's settings: --task, --data-dir,
  --preset, --max-attempt-tokens, .... Exits with code 2 where one is wrong.

  Raises:
    RunError: the checkpoint or the data cannot be used, or the directory holds
      another run.
  """
  parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
  # The evaluation's, and not that of training, which settings have too.
  parser.add_argument('--temperature')
  own, arguments = parser.parse_known_args(arguments)
  default = dataclasses.replace(
    schema.Settings(), preset='checkpoint', method=_METHOD
  )
  settings, for_evaluation = command_line.parse(
    schema.Settings,
    arguments,
    program=_PROGRAM,
    return_unknown_args=True,
    **command_line.preset_options(arguments, default),
  )
  command_line.reject_errors(settings)
  if own.temperature is not None:
    for_evaluation.append(f'--temperature={own.temperature}')
  settings = dataclasses.replace(settings, method=_METHOD)
  if settings.run_dir is None:
    name = hub.label(settings.init_from)
    settings = dataclasses.replace(
      settings, run_dir=f'runs/{name}_{settings.task}'
    )
  processes.join(settings.processes)
  directory = run_directory.RunDirectory(settings.directory)
  with directory.lock():
    # Copies the tokenizer, and rejects a checkpoint that does not fit.
    building.start(settings, directory)
    base_model.note_source(settings, directory)
  return [f'--run-dir={directory}', *for_evaluation]
