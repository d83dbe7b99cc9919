"""Whether a run fits its disk, before anything is written to it."""

import dataclasses
import pathlib
import shutil

from rich import filesize

from experiments.config import schema
from experiments.planning import disk, workload
from experiments.run import context, run_directory
from score_jax import distributed
from score_jax.interop import hub
from score_jax.io import buckets

_ADAPTERS = 16


def describe(settings: schema.Settings) -> str:
  """A sentence on the disk that a run takes; downloads nothing."""
  source = settings.init_from
  if settings.model.name is None and source and hub.is_name(source):
    return (
      f'Disk: not known before config.json of {source} is, which '
      'experiments.plan downloads.'
    )
  try:
    return str(disk.needed(settings, workload.model_of(settings)))
  except run_directory.RunError as error:
    return f'Disk: not known, as the model is not: {error}'


def check(run: context.StoredRun) -> None:
  """Compares what a run will write with what its disk has left. Collective.

  A bucket has room for all.

  Raises:
    RunError: it does not fit; says what would.
  """
  if buckets.is_url(run.directory.place):
    return
  needed = disk.needed(run.settings, run.config)
  path = run.directory.path
  free, used = distributed.by_first(lambda: _space(path))
  if needed.largest + needed.logs <= free + used:
    return
  fewer = dataclasses.replace(run.settings.lora, rank=_ADAPTERS)
  adapters = disk.needed(
    dataclasses.replace(run.settings, lora=fewer), run.config
  )
  smaller = ''
  if adapters.largest < needed.largest:
    size = filesize.decimal(adapters.largest)
    smaller = f', or train adapters alone: --lora.rank={_ADAPTERS} takes {size}'
  raise run_directory.RunError(
    f'{path} has {filesize.decimal(free)} left, too few for this run. {needed} '
    f'Make room, choose another disk with --run-dir=DIR{smaller}'
  )


def _space(path: pathlib.Path) -> tuple[int, int]:
  """Bytes that are free, and that the run's checkpoints have already."""
  files = path.glob('*/checkpoints/**/*')
  used = sum(file.stat().st_size for file in files if file.is_file())
  return shutil.disk_usage(path).free, used
