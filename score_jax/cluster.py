"""How a program becomes one of several processes: `jax.distributed`.

All processes run the same command and see the same run directory.
"""

from collections.abc import Mapping
import os
from typing import Any

import jax

from score_jax import distributed, heartbeat

AUTO = 'auto'
# Where the launcher says it through the environment.
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


class ClusterError(RuntimeError):
  """The processes cannot work as one; the message says why."""


def join(
  coordinator: str | None = None,
  count: int | None = None,
  index: int | None = None,
) -> None:
  """Becomes one of several processes where arguments or environment say so.

  To be called before anything touches a device. Does nothing where neither
  says anything, and when called again. From then on the processes watch each
  other: see `heartbeat`.

  Args:
    coordinator: HOST:PORT of the first process, or 'auto' for what a Cloud TPU
      or Slurm says; None: $JAX_COORDINATOR_ADDRESS.
    count: number of processes; None: $JAX_NUM_PROCESSES.
    index: of this process, from 0; None: $JAX_PROCESS_ID.

  Raises:
    ClusterError: an argument is missing or wrong, or the other processes
      cannot be reached.
  """
  if jax.distributed.is_initialized():
    return
  coordinator = coordinator or os.environ.get(_VARIABLES['coordinator'])
  count, index = _number(count, 'count'), _number(index, 'index')
  if not coordinator and ',' in os.environ.get(_TPU_HOSTS, ''):
    coordinator = AUTO
  if coordinator:
    _initialize(coordinator, count, index)
  elif (count, index) != (None, None):
    raise ClusterError(
      'there is a count or an index of processes, and no coordinator: say '
      'HOST:PORT of the first process, the same for all'
    )


def _number(value: int | None, name: str) -> int | None:
  text = os.environ.get(_VARIABLES[name])
  if value is not None or not text:
    return value
  if not text.isdecimal():
    raise ClusterError(f'{_VARIABLES[name]}={text}: not a number')
  return int(text)


def _initialize(coordinator, count, index) -> None:
  options: dict[str, Any] = {'shutdown_timeout_seconds': _LEAVE_SECONDS}
  if coordinator != AUTO:
    if count is None or index is None:
      raise ClusterError(
        f'coordinator={coordinator} needs the count of processes and, another '
        'for each of them from 0, the index'
      )
    if not 0 <= index < count:
      raise ClusterError(
        f'index={index}: of {count} processes the last is {count - 1}'
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
    raise ClusterError(
      f'the processes do not find each other (coordinator={coordinator}, '
      f'process {index} of {count}): {error}. Start all of them with the same '
      'command; the port must be open and free in the first'
    ) from error
  heartbeat.start()


def check_same(facts: Mapping[str, Any], fix: str) -> None:
  """Compares what must be equal in all processes. A collective.

  Args:
    facts: values by name.
    fix: what to do about a difference; ends the message.

  Raises:
    ClusterError: in every process, naming what differs.
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
    raise ClusterError(f'the processes do not agree:\n  {listed}\n{fix}')
