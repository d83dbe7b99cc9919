"""Damage outside checkpoints is named wherever a run is opened.

What no policy can be trusted without is an error; what only reports read, or
what the same command makes again, is a warning.
"""

from collections.abc import Mapping
import logging
import pathlib

from experiments.run import run_directory
from score_jax import distributed
from score_jax.io import json_files

_LOGGER = logging.getLogger(__name__)
_MADE_AGAIN = 'remove it, and the command that started the run makes it again'


def check(directory: run_directory.RunDirectory) -> None:
  """Names the damaged files of a run that is read. A collective.

  Raises:
    RunError: a file that the run's policies need is damaged.
  """
  distributed.by_first(lambda: check_alone(directory))


def check_trained(
  directory: run_directory.RunDirectory, steps: Mapping[str, int]
) -> None:
  """As `check`, for a run that is to go on. A collective.

  It makes again what is missing: only what it cannot go on with is looked for.

  Args:
    directory: the run's.
    steps: of each stage, with which it is finished.
  """

  def check_and_mend():
    check_alone(directory, is_trained=True)
    for name, number in steps.items():
      _mend_marker(directory.stage(name), number)

  distributed.by_first(check_and_mend)


def _mend_marker(stage: run_directory.StageDirectory, steps: int) -> None:
  """Writes finished.json again, if its digest says that it was finished."""
  path, written = stage.marker, stage.written
  if not written.has(path) or written.is_intact(path):
    return
  if written.accepts(path, json_files.dumps({'steps': steps}).encode()):
    _LOGGER.warning('%s was damaged or missing; it is made again', path)
    stage.mark_finished(steps)


def check_alone(
  directory: run_directory.RunDirectory, *, is_trained: bool = False
) -> None:
  """As `check`, for one process alone.

  Args:
    directory: the run's.
    is_trained: see `check_trained`.
  """
  for path, what in _find(directory):
    remedy = _remedy(directory, path)
    if remedy and not (is_trained and _can_be_made(directory, path)):
      raise run_directory.RunError(f'{directory.shown(path)} {what}; {remedy}')
    if not is_trained:
      _LOGGER.warning('%s %s', directory.shown(path), what)


def _find(
  directory: run_directory.RunDirectory,
) -> list[tuple[pathlib.Path, str]]:
  """Damaged files of the run and its stages, and what is wrong with each."""
  stages = sorted(p.parent.name for p in directory.path.glob('*/written.json'))
  folders = [directory, *map(directory.stage, stages)]
  return [
    (folder.path / name, what)
    for folder in folders
    for name, what in folder.written.damage().items()
  ]


def _remedy(directory: run_directory.RunDirectory, path: pathlib.Path) -> str:
  """What to do about a file that policies need; '' for other files."""
  if path == directory.tokenizer:
    return _MADE_AGAIN
  if path.parent == directory.pretrained:
    return _MADE_AGAIN.replace('it,', f'it and {directory.tokenizer},', 1)
  if path == directory.stage('base').source:
    return 'restore it, or start another run with --run-dir=DIR'
  return ''


def _can_be_made(
  directory: run_directory.RunDirectory, path: pathlib.Path
) -> bool:
  is_copied = path == directory.tokenizer or path.parent == directory.pretrained
  return is_copied and not (path.exists() or directory.tokenizer.exists())
