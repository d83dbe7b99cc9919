"""Programs that run as several processes on this machine, joined by gloo."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
_FLAG = '--xla_force_host_platform_device_count'


@dataclasses.dataclass(frozen=True)
class Ended:
  """Exit code and output of a process."""

  returncode: int
  output: str
  errors: str


def free_address() -> str:
  """HOST:PORT of this machine that nobody listens at."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    return f'localhost:{free.getsockname()[1]}'


def start(
  *arguments: str,
  processes: int = 2,
  devices: int = 2,
  environment: Mapping[str, str] = os.environ,
  joined: bool = True,
) -> list[subprocess.Popen]:
  """Starts `python *arguments` in each process; `finish` has to follow.

  Args:
    *arguments: of the interpreter; `{index}` and `{address}` are replaced.
    processes: number of processes.
    devices: virtual devices of each process.
    environment: of the processes.
    joined: tell `jax.distributed` of the processes, by their environment.
  """
  address = free_address()

  def start_one(index):
    own = dict(environment) | {'XLA_FLAGS': f'{_FLAG}={devices}'}
    if joined and processes > 1:
      own |= {
        'JAX_COORDINATOR_ADDRESS': address,
        'JAX_NUM_PROCESSES': str(processes),
        'JAX_PROCESS_ID': str(index),
      }
    return subprocess.Popen(
      [
        sys.executable,
        *(
          argument.replace('{index}', str(index)).replace('{address}', address)
          for argument in arguments
        ),
      ],
      cwd=ROOT,
      env=own,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  return [start_one(index) for index in range(processes)]


def finish(
  children: Sequence[subprocess.Popen], timeout: float = 400
) -> list[Ended]:
  """Waits for all processes while reading their output.

  Raises:
    AssertionError: some did not end in time; they are killed.
  """
  said = {}

  def listen(index, child):
    said[index] = child.communicate()

  listeners = [
    threading.Thread(target=listen, args=pair) for pair in enumerate(children)
  ]
  for listener in listeners:
    listener.start()
  for listener in listeners:
    listener.join(timeout)
  hung = [i for i, child in enumerate(children) if child.poll() is None]
  for child in children:
    child.kill()
  for listener in listeners:
    listener.join()
  assert not hung, f'processes {hung} hung; they said: {said}'
  return [
    Ended(child.returncode, _without_gloo(said[i][0]), said[i][1])
    for i, child in enumerate(children)
  ]


def _without_gloo(output: str) -> str:
  """The output without gloo's lines about its connections."""
  lines = output.splitlines(keepends=True)
  return ''.join(line for line in lines if 'peer ranks' not in line)


def run(*arguments: str, **options) -> list[Ended]:
  """`start` and `finish`; asserts that all succeed."""
  ended = finish(start(*arguments, **options))
  for i, process in enumerate(ended):
    assert process.returncode == 0, f'process {i}: {process.errors[-3000:]}'
  return ended
