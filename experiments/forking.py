"""A run that goes on from another one's checkpoints, with other settings.

All that the other run has is copied: its base policy and stages, finished or
not, with their logs. What the settings change begins where it was.
"""

import dataclasses
import logging
import os
import shutil

from experiments.config import fields, schema
from experiments.run import damage, run_directory, run_storage
from score_jax import distributed
from score_jax.io import buckets, json_files

_LOGGER = logging.getLogger(__name__)
# In the new run; it is no run before its config.json is out of it.
_COPY = '.fork'
_RECORD = 'forked_from.json'
_LEFT = ('report', 'report.html', 'curves.png', run_storage.LOCK, _COPY)


def begin(
  settings: schema.Settings, directory: run_directory.RunDirectory
) -> None:
  """Copies the run of --fork-from into a directory without one. Collective.

  Killed, it is begun again or ended by the same command.

  Raises:
    RunError: there is no such run, another trainer writes to it, or settings
      differ that its base policy depends on.
  """
  if not settings.fork_from:
    return
  distributed.by_first(lambda: _begin(settings, directory))


def _begin(settings, directory) -> None:
  copy, config = directory.path / _COPY, directory.config
  if not (config.exists() or directory.written.has(config)):
    shutil.rmtree(copy, ignore_errors=True)
    _copy(settings, directory)
    os.rename(copy / config.name, config)
  if copy.exists():
    for path in sorted(copy.iterdir()):
      os.rename(path, directory.path / path.name)
    copy.rmdir()


def _copy(settings, directory) -> None:
  if buckets.is_url(settings.fork_from) or buckets.is_url(directory.place):
    raise run_directory.RunError(
      f'--fork-from={settings.fork_from}: a run is forked on a disk; download '
      'it first, and upload the new one afterwards'
    )
  source = run_directory.RunDirectory(settings.fork_from)
  existing = source.read_settings()
  differences = fields.differences(
    fields.flatten(existing), fields.flatten(settings), schema.free()
  )
  base = {
    fields.flag(n)
    for n in fields.flatten(settings)
    if schema.affects(n) == 'base'
  }
  fixed = [each for each in differences if each[0] in base]
  if fixed:
    raise run_directory.RunError(
      f'--fork-from={source}: its base policy depends on other settings:\n  '
      + '\n  '.join(f'{name}: {a} there, {b} now' for name, a, b in fixed)
      + '\nfork it with '
      + ' '.join(fields.as_flag(name, a) for name, a, _ in fixed)
      + ', or start a run without --fork-from'
    )
  with source.lock():
    damage.check_alone(source)
    shutil.copytree(
      source.path,
      directory.path / _COPY,
      ignore=lambda folder, _: _LEFT if folder == str(source.path) else (),
    )
  fork = run_directory.RunDirectory(directory.path / _COPY)
  record = json_files.read_json(fork.config)
  fork.written.replace_json(
    fork.config, record | {'settings': dataclasses.asdict(settings)}
  )
  changed = {name: [a, b] for name, a, b in differences}
  fork.written.replace_json(
    fork.path / _RECORD, {'run': str(source), 'changed': changed}
  )
  _LOGGER.warning(
    '%s goes on from %s%s', directory, source,
    ''.join(f', {name}={b} instead of {a}' for name, (a, b) in changed.items()),
  )  # fmt: skip
