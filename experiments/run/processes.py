"""How a program becomes one of several processes, and what that asks of it.

All processes run the same command and see the same run directory; the first
one alone writes what people read. Checkpoints are written by all.
"""

from collections.abc import Mapping
import logging
import os
from typing import Any

import jax
from rich import console as rich_console

from experiments.config import schema
from experiments.run import run_directory
from score_jax import distributed

AUTO = 'auto'
# What the flags are called where they are given through the environment.
_VARIABLES = {
  'coordinator': 'JAX_COORDINATOR_ADDRESS',
  'count': 'JAX_NUM_PROCESSES',
  'index': 'JAX_PROCESS_ID',
}
# Of a Cloud TPU of several hosts under Kubernetes: one name for each of them.
_TPU_HOSTS = 'TPU_WORKER_HOSTNAMES'
# A process that failed waits so long for the others before it leaves, and so
# ends them; jax's own 5 minutes would be that much time paid for nothing.
_LEAVE_SECONDS = 20
_OWN = ('processes.index',)


def join(asked: schema.Processes) -> None:
  """Becomes one of several processes where flags or environment say so.

  To be called before anything touches a device. Where nothing is said, nothing
  happens.

  Raises:
    RunError: it is not said well enough, or the others cannot be reached.
  """
  if jax.distributed.is_initialized():
    return
  coordinator, count, index = (
    _given(asked, name) for name in ('coordinator', 'count', 'index')
  )
  if coordinator is None and ',' in os.environ.get(_TPU_HOSTS, ''):
    coordinator = AUTO
  if coordinator is None:
    if (count, index) != (None, None):
      raise run_directory.RunError(
        'it is said how many processes there are, or which this is, but not '
        'where they meet: add --processes.coordinator=HOST:PORT, the same for '
        'all, --processes.count and --processes.index'
      )
    return
  _initialize(coordinator, count, index)


def _given(asked: schema.Processes, name: str) -> Any:
  """A field's flag, or else its variable."""
  value = getattr(asked, name)
  if value is not None:
    return value
  text = os.environ.get(_VARIABLES[name])
  if not text or name == 'coordinator':
    return text or None
  if not text.isdecimal():
    raise run_directory.RunError(f'{_VARIABLES[name]}={text}: not a number')
  return int(text)


def _initialize(coordinator, count, index) -> None:
  options: dict[str, Any] = {'shutdown_timeout_seconds': _LEAVE_SECONDS}
  if coordinator != AUTO:
    if count is None or index is None:
      raise run_directory.RunError(
        f'--processes.coordinator={coordinator} needs --processes.count and, '
        'another for each process from 0, --processes.index'
      )
    if not 0 <= index < count:
      raise run_directory.RunError(
        f'--processes.index={index}: of {count} processes the last is '
        f'{count - 1}'
      )
    options |= {
      'coordinator_address': coordinator,
      'num_processes': count,
      'process_id': index,
      'cluster_detection_method': 'deactivate',
    }
  try:
    jax.distributed.initialize(**options)
  except (RuntimeError, ValueError) as error:
    raise run_directory.RunError(
      f'the processes do not find each other (--processes.coordinator='
      f'{coordinator}, process {index} of {count}): {error}. Start all of them '
      'with the same command; the port must be open and free in the first'
    ) from error


def check_started_alike(settings: schema.Settings) -> None:
  """Compares settings and versions of all processes; they talk.

  Raises:
    RunError: in every process, if one was started with others.
  """
  flags = {
    schema.flag(name): value
    for name, value in schema.flatten(settings).items()
    if name not in _OWN
  }
  check_same(
    flags | run_directory.versions(),
    'start all processes with the same flags and the same versions',
  )


def check_same(facts: Mapping[str, Any], mend: str) -> None:
  """Compares what must be the same in all processes; they talk.

  Raises:
    RunError: in every process, naming what differs and, with `mend`, what to
      do.
  """
  first, *others = distributed.gather(dict(facts))
  differences = [
    f'{name}: {first.get(name)} in process 0, {other.get(name)} in process {i}'
    for i, other in enumerate(others, start=1)
    for name in first.keys() | other.keys()
    if other.get(name) != first.get(name)
  ]
  if differences:
    listed = '\n  '.join(sorted(differences)[:8])
    raise run_directory.RunError(
      f'the processes do not agree:\n  {listed}\n{mend}'
    )


def make_console() -> rich_console.Console:
  """A console that is silent in all processes but the first.

  So are warnings; what goes wrong is said by whoever it happens to.
  """
  logging.basicConfig(format='%(levelname)s: %(message)s')
  if not distributed.is_first():
    logging.getLogger().setLevel(logging.ERROR)
  return rich_console.Console(quiet=not distributed.is_first())
