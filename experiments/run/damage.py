"""Damage outside checkpoints is named wherever a run is opened.

What no policy can be trusted without is an error; what only reports read, or
what the same command makes again, is a warning.
"""

import logging
import pathlib

from experiments.run import run_directory
from score_jax import distributed

_LOGGER = logging.getLogger(__name__)
_MADE_AGAIN = 'remove it, and the command that started the run makes it again'


def check(
  directory: run_directory.RunDirectory, *, is_trained: bool = False
) -> None:
  """Names the damaged files of a run. A collective.

  Args:
    directory: the run's.
    is_trained: the run is to go on, and makes again what is missing: only what
      it cannot go on with is looked for.

  Raises:
    RunError: a file that the run's policies need is damaged.
  """
  distributed.by_first(lambda: check_alone(directory, is_trained=is_trained))


def check_alone(
  directory: run_directory.RunDirectory, *, is_trained: bool = False
) -> None:
  """As `check`, for one process alone."""
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
