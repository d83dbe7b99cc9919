"""Joins several processes, and silences all but the first.

All processes run the same command and see the same run directory; the first
one alone writes what people read. Checkpoints are written by all.
"""

from collections.abc import Mapping
import io
import logging
import os
import sys
from typing import Any

from rich import console as rich_console

from experiments.config import environment, fields, groups, schema
from experiments.run import run_directory
from score_jax import cluster, distributed, heartbeat

# Differs between the processes of a run.
_OWN = ('processes.index',)


def begin(settings: schema.Settings) -> None:
  """Joins the processes of a training run, all started alike. A collective.

  Before anything touches a device: the TPU's compiler reads its flags then.

  Raises:
    RunError: see `join` and `check_started_alike`.
  """
  if settings.libtpu_init_args:
    os.environ.setdefault('LIBTPU_INIT_ARGS', settings.libtpu_init_args)
  join(settings.processes)
  check_started_alike(settings)


def join(asked: groups.Processes) -> None:
  """Joins the other processes, where flags or environment name any.

  Raises:
    RunError: the flags are incomplete, or the others cannot be reached.
  """
  try:
    cluster.join(asked.coordinator, asked.count, asked.index)
  except cluster.ClusterError as error:
    raise run_directory.RunError(
      f'{error} (--processes.coordinator, --processes.count, --processes.index)'
    ) from error


def check_started_alike(settings: schema.Settings) -> None:
  """Compares settings and versions of all processes. A collective.

  Raises:
    RunError: in every process, if one of them differs.
  """
  flags = {
    fields.flag(name): value
    for name, value in fields.flatten(settings).items()
    if name not in _OWN
  }
  check_same(
    flags | environment.versions(),
    'start all processes with the same flags and the same versions',
  )


def check_same(facts: Mapping[str, Any], fix: str) -> None:
  """`cluster.check_same`, whose error ends the program. A collective.

  Raises:
    RunError: in every process, naming what differs.
  """
  try:
    cluster.check_same(facts, fix)
  except cluster.ClusterError as error:
    raise run_directory.RunError(str(error)) from error


def fail(error: Exception, code: int) -> int:
  """Says what ends this process, to people and to the other processes.

  Returns:
    The exit code; of several processes, none returns.
  """
  heartbeat.end_with(
    error, code, lambda: print(f'error: {error}', file=sys.stderr)
  )
  return code


def make_console() -> rich_console.Console:
  """A console that is silent in all processes but the first.

  So are warnings; an error is printed by the process that it happens in.
  """
  # No letter that a terminal does not know ends a run. Notebooks know all.
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='replace')
  logging.basicConfig(format='%(levelname)s: %(message)s')
  # Orbax logs what it raises, several times, with the stacks of its threads.
  logging.getLogger('absl').setLevel(logging.CRITICAL)
  # As gcsfs logs each try at a bucket that is not there.
  logging.getLogger('gcsfs').setLevel(logging.CRITICAL)
  if not distributed.is_first():
    logging.getLogger().setLevel(logging.ERROR)
  return rich_console.Console(quiet=not distributed.is_first())
