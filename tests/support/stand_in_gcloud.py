"""A program that answers as gcloud does, for TPU slices that are directories.

`install` writes it. It knows the commands, and only the flags, that gcloud has
for queued resources and TPU VMs; keeps what exists in a file; runs what is sent
to workers in a directory for each of them; and fails as it is told:

  quota: so many requests are refused for quota
  waits: states that a new request goes through, one a look
  silent: so many connections to workers fail first

`preempt` takes a slice away, as Google does with spot ones.
"""

import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

_HOME = 'STAND_IN_GCLOUD'


def install(home: pathlib.Path, program: pathlib.Path, **told) -> None:
  """Makes `program`, whose slices live in `home`."""
  home.mkdir(parents=True)
  waits = ['WAITING_FOR_RESOURCES', 'PROVISIONING']
  state = {'quota': 0, 'silent': 0, 'waits': waits, 'workers': 2} | told
  state |= {'slices': {}, 'calls': []}
  (home / 'state').write_text(json.dumps(state))
  program.parent.mkdir(parents=True, exist_ok=True)
  program.write_text(
    f'#!/bin/sh\n{_HOME}={home} exec {sys.executable} -I -S {__file__} "$@"\n'
  )
  program.chmod(0o755)


def read(home: pathlib.Path) -> dict:
  """What exists and what was asked."""
  return json.loads((home / 'state').read_text())


def worker(home: pathlib.Path, name: str, index: int) -> pathlib.Path:
  """Home directory of a slice's worker."""
  return home / 'workers' / name / str(index)


def end_program(worker_home: pathlib.Path) -> None:
  """Kills what tpu_worker.sh started on a worker, as the end of a VM does."""
  run = worker_home / 'score_jax.run'
  if (run / 'pid').is_file() and not (run / 'ended').is_file():
    with contextlib.suppress(ProcessLookupError):
      pid = int((run / 'pid').read_text())
      os.killpg(os.getpgid(pid), signal.SIGKILL)


def preempt(home: pathlib.Path, name: str) -> None:
  """Takes a slice and all that runs there away."""
  with _Cloud(home) as cloud:
    cloud.end_workers(name)
    cloud.state['slices'][name]['states'] = ['SUSPENDING', 'SUSPENDED']


def silence(home: pathlib.Path, times: int) -> None:
  """Lets so many connections to workers fail."""
  with _Cloud(home) as cloud:
    cloud.state['silent'] = times


class _Error(Exception):
  """What gcloud prints before it exits with code 1."""


class _Cloud:
  """The state, kept from other processes meanwhile."""

  def __init__(self, home: pathlib.Path):
    self.home = home

  def __enter__(self):
    self._lock = (self.home / 'lock').open('w')
    fcntl.flock(self._lock, fcntl.LOCK_EX)
    self.state = read(self.home)
    return self

  def __exit__(self, *_):
    new = self.home / 'state.new'
    new.write_text(json.dumps(self.state))
    new.replace(self.home / 'state')
    self._lock.close()

  def slice(self, name: str) -> dict:
    if name not in self.state['slices']:
      raise _Error(f"NOT_FOUND: Resource '{name}' was not found")
    return self.state['slices'][name]

  def next_state(self, name: str) -> str:
    states = self.slice(name)['states']
    return states.pop(0) if len(states) > 1 else states[0]

  def workers(self, name: str, which: str) -> list[pathlib.Path]:
    state = self.slice(name)['states'][0]
    if state != 'ACTIVE':
      raise _Error(
        'This TPU has terminal state "PREEMPTED", so it cannot be used anymore.'
      )
    if self.state['silent']:
      self.state['silent'] -= 1
      raise _Error('[/usr/bin/ssh] exited with return code [255].')
    count = self.state['workers']
    indices = range(count) if which == 'all' else [int(which)]
    return [worker(self.home, name, i) for i in indices]

  def end_workers(self, name: str) -> None:
    for directory in (self.home / 'workers' / name).glob('*'):
      end_program(directory)
    shutil.rmtree(self.home / 'workers' / name, ignore_errors=True)


def _create(cloud, o) -> None:
  if o.name in cloud.state['slices']:
    raise _Error(f"ALREADY_EXISTS: Resource '{o.name}' already exists")
  if cloud.state['quota']:
    cloud.state['quota'] -= 1
    raise _Error(
      "RESOURCE_EXHAUSTED: Quota limit 'TPUV5sPreemptibleLitepodPerProject"
      "PerZoneForTPUAPI' has been exceeded. Limit: 0 in zone here."
    )
  asked = {'type': o.accelerator_type, 'image': o.runtime_version}
  states = [*cloud.state['waits'], 'ACTIVE']
  cloud.state['slices'][o.name] = asked | {'spot': o.spot, 'states': states}
  for i in range(cloud.state['workers']):
    worker(cloud.home, o.name, i).mkdir(parents=True)


def _describe(cloud, o) -> None:
  if o.format == 'value(state.failedData.error.message)':
    print('no such accelerator in this zone')
  else:
    print(cloud.next_state(o.name))


def _delete(cloud, o) -> None:
  if not (o.force and o.quiet):
    raise _Error('FAILED_PRECONDITION: it has nodes, and nobody can be asked')
  cloud.slice(o.name)
  cloud.end_workers(o.name)
  del cloud.state['slices'][o.name]


def _scp(cloud, o) -> None:
  name, _, path = o.to.partition(':')
  for directory in cloud.workers(name, o.worker):
    shutil.copy(o.source, directory / path)


def _ssh(directories: list[pathlib.Path], command: str) -> None:
  """Runs a command on workers; the status is of the first that fails."""
  running = [
    subprocess.Popen(
      ['bash', '-c', command],
      cwd=directory,
      stdin=subprocess.DEVNULL,
      env=os.environ
      | {'HOME': str(directory), 'HOSTNAME': f't1v-n-w-{directory.name}'},
    )
    for directory in directories
  ]
  codes = [process.wait() for process in running]
  for directory, code in zip(directories, codes, strict=True):
    if code and len(codes) > 1:
      print(
        f'##### Command execution on worker {directory.name} failed with exit '
        f'status {code}. Continuing.',
        file=sys.stderr,
      )
  sys.exit(next((code for code in codes if code), 0))


def _arguments() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(allow_abbrev=False)
  verbs = parser.add_subparsers(required=True)

  def verb(name, function, *positional, required=(), optional=(), flags=()):
    found = verbs.add_parser(name, allow_abbrev=False)
    for argument in positional:
      found.add_argument(argument)
    found.add_argument('--zone', required=True)
    for flag in required:
      found.add_argument(flag, required=True)
    for flag in optional:
      found.add_argument(flag)
    for flag in flags:
      found.add_argument(flag, action='store_true')
    found.set_defaults(function=function)

  size = ('--node-id', '--accelerator-type', '--runtime-version')
  verb('queued-resources create', _create, 'name', required=size,
       flags=['--spot'])  # fmt: skip
  verb('queued-resources describe', _describe, 'name', optional=['--format'])
  verb('queued-resources delete', _delete, 'name', flags=['--force', '--quiet'])
  verb('tpu-vm describe', _describe, 'name', optional=['--format'])
  verb('tpu-vm scp', _scp, 'source', 'to', required=['--worker'])
  verb('tpu-vm ssh', None, 'name', required=['--worker', '--command'])
  return parser


def main() -> None:
  """Answers one call."""
  group, *rest = sys.argv[1:4], *sys.argv[4:]
  if group[:2] != ['compute', 'tpus']:
    sys.exit(2)
  options = _arguments().parse_args([f'{group[2]} {rest[0]}', *rest[1:]])
  try:
    with _Cloud(pathlib.Path(os.environ[_HOME])) as cloud:
      cloud.state['calls'].append(sys.argv[1:])
      if options.function is None:
        directories = cloud.workers(options.name, options.worker)
      else:
        options.function(cloud, options)
        return
    _ssh(directories, options.command)
  except _Error as error:
    print(f'ERROR: (gcloud.{".".join(group)}) {error}', file=sys.stderr)
    sys.exit(1)


if __name__ == '__main__':
  main()
