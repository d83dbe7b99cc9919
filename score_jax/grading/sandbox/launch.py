"""Starts a program's interpreter inside a sandbox.

Two kinds give the same guarantees by different means: `bwrap`, namespaces by
bubblewrap with a seccomp filter, and `landlock`, Landlock with a stricter
filter that allows no further process. `none` isolates nothing.
"""

from collections.abc import Mapping
import dataclasses
import functools
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys

from score_jax.grading.sandbox import seccomp

KINDS = ('bwrap', 'landlock', 'none')
_HERE = pathlib.Path(__file__).parent
_FIRST_UID = 60_000
_NOBODY = 65_534
_SYSTEM_PATHS = ('/usr', '/lib', '/lib64', '/bin')
_ENVIRONMENT = {
  'PATH': '/usr/bin:/bin',
  'HOME': '/tmp',
  'PYTHONHASHSEED': '0',
  'PYTHONDONTWRITEBYTECODE': '1',
}
# Builds the few modules from their texts, because the sandbox sees no file of
# ours: nothing there has to be readable by another user, and no file holds
# tests or answers.
_BOOT = """
import sys
sys.path[:] = [path for path in sys.path if path]
import json, random, types
random.seed(0)
texts, settings = json.loads(sys.argv[1]), json.loads(sys.argv[2])
package = types.ModuleType('score_jax.grading.sandbox')
sys.modules['score_jax.grading.sandbox'] = package
for name, text in texts.items():
  module = types.ModuleType('score_jax.grading.sandbox.' + name)
  exec(compile(text, name + '.py', 'exec'), module.__dict__)
  setattr(package, name, module)
if settings['restrict']:
  package.restrict.restrict(
    settings['readable'], bytes.fromhex(settings['filter']), settings['parent'])
package.candidate.limit(settings['limits'])
requests, replies = settings['requests'], settings['replies']
serve = package.candidate.serve
sys.argv[:] = ['']
del texts, settings, package, module, text, name
serve(requests, replies)
"""


@dataclasses.dataclass(frozen=True)
class Limits:
  """Resources that one program may use.

  Attributes:
    cpu_seconds: CPU time, of each process and of all together.
    wall_seconds: time from start to verdict.
    idle_seconds: time without any CPU use while the runner waits.
    memory_bytes: address space of each process.
    file_bytes: size of each file that it writes.
    scratch_bytes: size of its writable directory (bwrap; landlock has none).
    processes: processes of its user namespace (bwrap; landlock allows threads
      only).
  """

  cpu_seconds: float = 10.0
  wall_seconds: float = 110.0
  idle_seconds: float = 2.0
  memory_bytes: int = 512 * 2**20
  file_bytes: int = 4 * 2**20
  scratch_bytes: int = 16 * 2**20
  processes: int = 32

  def rlimits(self, kind: str) -> dict[str, int]:
    """Limits that the interpreter sets itself, by name after RLIMIT_."""
    limits = {
      'AS': self.memory_bytes,
      'CPU': math.ceil(self.cpu_seconds),
      'FSIZE': self.file_bytes,
      'NOFILE': 64,
      'CORE': 0,
    }
    # Counted per user, so that two sandboxes of one user would share it; in a
    # user namespace, set from inside, the count is the program's own.
    return limits | ({'NPROC': self.processes} if kind == 'bwrap' else {})


@dataclasses.dataclass(frozen=True)
class Sandbox:
  """The way in which programs are started on this machine.

  Attributes:
    kind: one of `KINDS`.
    python: interpreter for them, standard library only.
  """

  kind: str
  python: str


@dataclasses.dataclass
class Started:
  """A running interpreter and the ends of its two pipes."""

  process: subprocess.Popen
  requests: int
  replies: int


@functools.cache
def interpreters() -> tuple[str, ...]:
  """Interpreters that could run programs, the preferred one first.

  The system's own comes first: the unprivileged user that programs run as can
  read it, unlike one below somebody's home.
  """
  own = os.path.realpath(sys.executable)
  found = [
    os.path.realpath(path)
    for path in ('/usr/bin/python3', '/usr/local/bin/python3')
    if os.access(path, os.X_OK)
  ]
  return tuple(dict.fromkeys([*found, own]))


def start(sandbox: Sandbox, limits: Limits) -> Started:
  """Starts the interpreter; it waits for requests.

  Raises:
    OSError: the sandbox's program is missing or cannot be run.
  """
  request_read, request_write = os.pipe()
  reply_read, reply_write = os.pipe()
  filter_file = _filter_file(sandbox.kind)
  inherited = [request_read, reply_write]
  inherited += [filter_file] if filter_file is not None else []
  try:
    # Not -I: it would ignore PYTHONHASHSEED, without which the order of sets,
    # and with it a verdict, varies. The environment is ours anyway.
    command = [sandbox.python, '-s', '-S', '-c', _BOOT, _texts()]
    command.append(
      json.dumps(_settings(sandbox, limits, request_read, reply_write))
    )
    if sandbox.kind == 'bwrap':
      command = [*_bwrap(sandbox, limits, filter_file), *command]
    process = subprocess.Popen(
      command,
      # Nothing that the program prints is read, so that neither a marker nor a
      # flood of output reaches the verdict.
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      pass_fds=inherited,
      cwd='/',
      env=_ENVIRONMENT,
      start_new_session=True,
      **_identity(sandbox.kind),
    )
  except BaseException:
    os.close(request_write)
    os.close(reply_read)
    raise
  finally:
    for descriptor in inherited:
      os.close(descriptor)
  # A program that does not read, or sends half a reply, must not block us.
  os.set_blocking(request_write, False)
  os.set_blocking(reply_read, False)
  return Started(process, request_write, reply_read)


def _identity(kind: str) -> Mapping[str, object]:
  """A user for each runner, where we are root.

  RLIMIT_NPROC does not hold for root, whatever uid a namespace maps it to: to
  the kernel it is still uid 0.
  """
  if kind == 'none' or os.geteuid() != 0:
    return {}
  uid = _FIRST_UID + os.getpid() % 4000
  return {'user': uid, 'group': uid, 'extra_groups': []}


@functools.cache
def _texts() -> str:
  names = ('tagged_json', 'restrict', 'candidate')
  texts = {name: (_HERE / f'{name}.py').read_text() for name in names}
  return json.dumps(texts)


def _settings(sandbox, limits, requests, replies) -> dict[str, object]:
  landlock = sandbox.kind == 'landlock'
  program = seccomp.filter_program(threads_only=True) if landlock else b''
  return {
    'limits': limits.rlimits(sandbox.kind),
    'requests': requests,
    'replies': replies,
    'restrict': landlock,
    'readable': [*_SYSTEM_PATHS, *_own_prefix(sandbox.python)],
    'filter': program.hex(),
    'parent': os.getpid(),
  }


def _own_prefix(python: str) -> list[str]:
  """The installation of an interpreter outside the system's directories."""
  if python.startswith('/usr/'):
    return []
  return [str(pathlib.Path(python).parent.parent)]


def _filter_file(kind: str) -> int | None:
  if kind != 'bwrap':
    return None
  descriptor = os.memfd_create('seccomp')
  os.write(descriptor, seccomp.filter_program(threads_only=False))
  os.lseek(descriptor, 0, os.SEEK_SET)
  return descriptor


def _bwrap(sandbox, limits: Limits, filter_file: int) -> list[str]:
  program = shutil.which('bwrap', path='/usr/bin:/usr/local/bin:/bin')
  if program is None:
    raise FileNotFoundError('bwrap (of bubblewrap) is not installed')
  # --disable-userns: a nested user namespace would give the program all
  # capabilities over it, and with them a larger part of the kernel to attack.
  command = [program, '--unshare-all', '--unshare-user', '--disable-userns']
  # --new-session: without it a program could type into our terminal (TIOCSTI).
  command += ['--die-with-parent', '--new-session', '--clearenv']
  for name, value in _ENVIRONMENT.items():
    command += ['--setenv', name, value]
  command += ['--hostname', 'sandbox']
  command += ['--uid', str(_NOBODY), '--gid', str(_NOBODY)]
  for path in _SYSTEM_PATHS:
    if os.path.islink(path):
      command += ['--symlink', os.readlink(path), path]
    elif os.path.isdir(path):
      command += ['--ro-bind', path, path]
  for path in _own_prefix(sandbox.python):
    command += ['--ro-bind', path, path]
  # No /proc: through it a program could write into bwrap's own process, which
  # is in the same namespaces but under no filter.
  command += ['--dev', '/dev', '--remount-ro', '/dev']
  # The only writable directory, in memory and of bounded size: filling it ends
  # in ENOSPC and not in a full disk of the host.
  command += ['--size', str(limits.scratch_bytes), '--tmpfs', '/tmp']
  command += ['--remount-ro', '/', '--chdir', '/tmp']
  return [*command, '--seccomp', str(filter_file), '--']
