"""Whether a sandbox holds on this machine, found out by attacking it.

Installed programs prove nothing: containers often forbid the namespaces that
they need. So a program in the sandbox tries to get out in the ways that matter,
with real secrets planted, and one success rejects the sandbox.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import logging
import os
import pathlib
import secrets
import socket
import tempfile
import time

from score_jax.grading.sandbox import launch, session

_LOG = logging.getLogger(__name__)
_PROGRAM = pathlib.Path(__file__).with_name('probe_program.py')
# Longer idle time than for programs: the tries include sleeping processes.
_LIMITS = launch.Limits(cpu_seconds=5, wall_seconds=60, idle_seconds=20)
_FIXES = (
  'Fixes: install bubblewrap (Debian, Ubuntu: apt-get install '
  'bubblewrap); in a container allow user namespaces (docker run '
  '--security-opt seccomp=unconfined, or a profile that allows unshare; '
  'Kubernetes: a seccomp profile likewise); on Ubuntu 24.04 add an AppArmor '
  'profile for bwrap or set kernel.apparmor_restrict_unprivileged_userns=0; or '
  'use a kernel of 6.12 or later, whose Landlock scopes signals.'
)


@dataclasses.dataclass(frozen=True)
class Line:
  """The result of one attack.

  Attributes:
    name: the property of the sandbox that it tests.
    held: whether the sandbox withstood it.
    detail: what got through, or why nothing could be tried.
  """

  name: str
  held: bool
  detail: str = ''


class NoSandboxError(RuntimeError):
  """No sandbox holds on this machine, so that no program of a model is run."""


@functools.cache
def choose(kind: str = 'auto') -> launch.Sandbox:
  """The first sandbox that withstands the probe.

  Args:
    kind: 'auto', or one of `launch.KINDS`; 'none' isolates nothing and is
      never chosen by 'auto'.

  Raises:
    NoSandboxError: none holds; the message lists leaks and fixes.
    ValueError: no such kind.
  """
  if kind == 'none':
    _LOG.warning(
      'programs written by the model run WITHOUT a sandbox, with your rights'
    )
    return launch.Sandbox('none', launch.interpreters()[0])
  if kind not in ('auto', *launch.KINDS):
    raise ValueError(f'no sandbox {kind!r}; there are auto, {launch.KINDS}')
  kinds = ('bwrap', 'landlock') if kind == 'auto' else (kind,)
  report = []
  for candidate in kinds:
    for python in launch.interpreters():
      sandbox = launch.Sandbox(candidate, python)
      lines = probe(sandbox)
      if all(line.held for line in lines):
        return sandbox
      report += [
        f'  {candidate} ({python}): {line.name}: {line.detail}'
        for line in lines
        if not line.held
      ]
  raise NoSandboxError(
    'no sandbox holds on this machine, so model-written programs are not run:\n'
    + '\n'.join(report)
    + f'\n{_FIXES}'
  )


def probe(sandbox: launch.Sandbox) -> list[Line]:
  """Results of all attacks, in order; fewer where the sandbox ended."""
  marker = f'probe{secrets.token_hex(4)}'
  with _planted(marker) as (secret, outside, port):
    tries = {
      'reads no file of the host': ('read_secret', secret),
      'sees no environment variable': ('see_environment', marker),
      'sees no other process': ('see_parent', os.getpid()),
      'writes no other memory': ('write_memory', os.getpid()),
      'reaches no network': ('connect', port, marker),
      'writes no file of the host': ('write_outside', outside),
      'signals no other process': ('signal_parent', os.getpid()),
      'starts few processes': ('fork_without_end', 200),
      'gets little memory': ('take_memory', 2 * _LIMITS.memory_bytes),
      'writes no large file': ('fill_disk', 2 * _LIMITS.file_bytes),
      'gains no privileges': ('gain_privileges', os.getpid()),
      'leaves no process': ('leave_daemon', marker),
    }
    lines = _try_all(sandbox, tries)
    if lines and lines[-1].name == 'leaves no process':
      stayed = _processes_named(marker)
      if stayed:
        detail = f'processes {stayed} stayed'
        lines[-1] = Line('leaves no process', False, detail)
    if pathlib.Path(outside).exists():
      lines.append(Line('leaves no file', False, f'{outside} was written'))
    return lines


def _try_all(sandbox: launch.Sandbox, tries) -> list[Line]:
  lines = []
  try:
    with session.Session(sandbox, _LIMITS) as program:
      reply = program.request('load', source=_PROGRAM.read_text())
      if 'error' in reply:
        return [Line('starts', False, str(reply)[:200])]
      for name, (function, *arguments) in tries.items():
        handle = program.request('get', name=function)['value'][1]
        reply = program.request(
          'call', handle=handle, arguments=arguments, named={}
        )
        # An exception (no fork, no module) means that the attack failed, too.
        got = str(reply.get('value', ''))
        failed = f'{reply.get("error", "")} {reply.get("message", "")}'.strip()
        lines.append(Line(name, not got, got or failed))
  except (
    session.ProgramEndedError,
    session.ProgramTimeoutError,
    session.SandboxFailedError,
  ) as error:
    lines.append(Line('starts and answers', False, str(error)))
  return lines


@contextlib.contextmanager
def _planted(marker: str) -> Iterator[tuple[str, str, int]]:
  """A secret file, an environment variable, and two listening sockets."""
  with contextlib.ExitStack() as stack:
    directory = pathlib.Path(
      stack.enter_context(tempfile.TemporaryDirectory(prefix='score_jax_'))
    )
    # World-readable and writable, so that only the sandbox protects it.
    directory.chmod(0o777)
    secret = directory / 'secret'
    secret.write_text(marker)
    secret.chmod(0o644)
    variable = f'SCORE_JAX_{marker.upper()}'
    os.environ[variable] = marker
    stack.callback(os.environ.pop, variable)
    server = stack.enter_context(socket.create_server(('127.0.0.1', 0)))
    local = stack.enter_context(socket.socket(socket.AF_UNIX))
    local.bind('\0' + marker)
    local.listen()
    yield str(secret), str(directory / 'outside'), server.getsockname()[1]


def _processes_named(name: str) -> list[int]:
  found = []
  for _ in range(5):
    found = []
    for process in pathlib.Path('/proc').glob('[0-9]*'):
      with contextlib.suppress(OSError):
        if (process / 'comm').read_text().strip() == name[:15]:
          found.append(int(process.name))
    if not found:
      break
    time.sleep(0.1)  # a dying namespace takes a moment
  return found
