"""Inside the Landlock sandbox: the process drops its rights irrevocably.

Landlock (linux/landlock.h) by raw system calls, then the seccomp filter. Runs
before the program is loaded; standard library only, because its text is passed
to `python -c`.
"""

import ctypes
import os
import struct

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES, _PARENT_DEATH_SIGNAL, _SECCOMP = 38, 1, 22
_SECCOMP_FILTER = 2
_SIGKILL = 9
_EXECUTE, _WRITE, _READ, _READ_DIRECTORY = 1, 2, 4, 8
# All rights over files, by the version of the interface that introduced the
# last of them. A kernel rejects bits that it does not know.
_RIGHTS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
_TCP = 0x3
_SCOPES = 0x3


def landlock_version():
  """The version of the kernel's Landlock interface, 0 where there is none."""
  libc = ctypes.CDLL(None, use_errno=True)
  version = libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
  return max(0, version)


def restrict(readable, seccomp_filter, parent):
  """Lets the process read below `readable`, and write nothing.

  Landlock has no quota, so a writable directory could fill the disk; the tests
  of coding problems hardly need one.

  Args:
    readable: paths of files or directories.
    seccomp_filter: bytes of `seccomp.filter_program`.
    parent: process id of the runner.

  Raises:
    OSError: a restriction could not be put in place.
  """
  libc = ctypes.CDLL(None, use_errno=True)
  _must(libc.prctl(_PARENT_DEATH_SIGNAL, _SIGKILL, 0, 0, 0))
  # The signal comes only for a death from now on: the runner may have died
  # between the fork and this line.
  if os.getppid() != parent:
    os._exit(1)
  # Irrevocable, and required of unprivileged users by both of the following.
  _must(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
  _landlock(libc, readable)
  code = ctypes.create_string_buffer(seccomp_filter, len(seccomp_filter))
  # struct sock_fprog: the number of instructions, and their address.
  program = struct.pack(
    'HxxxxxxP', len(seccomp_filter) // 8, ctypes.addressof(code)
  )
  _must(libc.prctl(_SECCOMP, _SECCOMP_FILTER, program, 0, 0))


def _landlock(libc, readable):
  version = landlock_version()
  if version < 1:
    raise OSError('the kernel has no Landlock')
  rights = max(r for v, r in _RIGHTS.items() if v <= version)
  handled = struct.pack(
    'QQQ', rights, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0
  )
  # The struct grew with the versions.
  size = 24 if version >= 6 else 16 if version >= 4 else 8
  ruleset = _must(libc.syscall(_CREATE_RULESET, handled, size, 0))
  for path in readable:
    _allow(libc, ruleset, path, _EXECUTE | _READ | _READ_DIRECTORY)
  for path in ('/dev/null', '/dev/zero', '/dev/urandom'):
    _allow(libc, ruleset, path, _READ | (_WRITE if path == '/dev/null' else 0))
  _must(libc.syscall(_RESTRICT_SELF, ruleset, 0))
  os.close(ruleset)


def _allow(libc, ruleset, path, rights):
  if not os.path.exists(path):
    return
  # The right to list a directory is an error on a file.
  if not os.path.isdir(path):
    rights &= ~_READ_DIRECTORY
  descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
  rule = struct.pack('=Qi', rights, descriptor)
  _must(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
  os.close(descriptor)


def _must(result):
  if result < 0:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))
  return result
