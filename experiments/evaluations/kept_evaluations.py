"""Reads and writes the evaluations of a run: RUN_DIR/evaluations/NAME.json.

Beside it NAME_POLICY.jsonl has every attempt, as evaluation.jsonl of a stage.
Each file holds `name`, the `options` it was made with, and `policies`: by the
policy's name the summary that results.json has too, and beside it whatever was
asked for (`changes`, `pass_at`, `majority_at`, `scaling`, `by`). `comparison`
holds paired tests `against` a policy.
"""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

from experiments.evaluations import evaluation_options
from experiments.run import run_directory
from score_jax.io import json_files, written_files


def folder(directory: run_directory.RunDirectory) -> pathlib.Path:
  """Directory of a run's evaluations."""
  return directory.path / 'evaluations'


def write(
  directory: run_directory.RunDirectory,
  name: str,
  options: evaluation_options.Options,
  measured: Mapping[str, Any],
) -> pathlib.Path:
  """Writes an evaluation, replacing one of the same name; returns its path."""
  folder(directory).mkdir(exist_ok=True)
  path = folder(directory) / f'{name}.json'
  asked = dataclasses.asdict(options)
  del asked['processes']
  record = {'name': name, 'options': asked, **measured}
  directory.written.replace_json(path, record)
  return path


def attempts_file(
  directory: run_directory.RunDirectory, name: str, policy: str
) -> pathlib.Path:
  """File of a policy's attempts in an evaluation."""
  return folder(directory) / f'{name}_{policy}.jsonl'


def read_all(directory: run_directory.RunDirectory) -> list[dict[str, Any]]:
  """Reads every evaluation of the run, in the order of their names.

  Raises:
    RunError: a file is damaged.
  """
  found = []
  for path in sorted(folder(directory).glob('*.json')):
    if path.name == written_files.NAME:
      continue
    record = json_files.read_json(path)
    if not (isinstance(record, dict) and directory.written.is_intact(path)):
      raise run_directory.RunError(
        f'{path} is damaged; remove it and evaluate again'
      )
    found.append(record)
  return found
