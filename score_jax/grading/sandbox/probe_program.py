"""Attacks that the probe makes from inside a sandbox.

Each function returns '' where it failed, else a line about what it got at.
Standard library only: its text is sent to the sandbox.
"""

import contextlib
import ctypes
import os
import resource
import signal
import socket
import time


def read_secret(path):
  try:
    with open(path) as file:
      return f'read {path}: {file.read(20)!r}'
  except OSError:
    return ''


def see_environment(marker):
  names = [name for name, value in os.environ.items() if marker in value]
  return f'environment variables {names}' if names else ''


def see_parent(parent):
  try:
    with open(f'/proc/{parent}/environ', 'rb') as file:
      return f'{len(file.read())} bytes of the environment of {parent}'
  except OSError:
    return ''


def write_memory(parent):
  for pid in (1, os.getppid(), parent):
    with contextlib.suppress(OSError), open(f'/proc/{pid}/mem', 'r+b'):
      return f'may write the memory of process {pid}'
  return ''


def connect(port, abstract):
  addresses = (
    (socket.AF_INET, ('127.0.0.1', port)),
    (socket.AF_UNIX, '\0' + abstract),
  )
  for family, address in addresses:
    with contextlib.suppress(OSError), socket.socket(family) as client:
      client.settimeout(1)
      client.connect(address)
      return f'connected to {address!r}'
  return ''


def write_outside(path):
  for target in (path, '/usr/probe', '/etc/probe', '/var/tmp/probe', '/probe'):
    with contextlib.suppress(OSError), open(target, 'w') as file:
      file.write('probe')
      return f'wrote {target}'
  return ''


def signal_parent(parent):
  libc = ctypes.CDLL(None, use_errno=True)
  with contextlib.suppress(OSError):
    os.kill(parent, 0)
    return f'may signal process {parent}'
  # tgkill by number: a filter that denies kill alone would let it through.
  number = {'x86_64': 234, 'aarch64': 131}.get(os.uname().machine, 234)
  if libc.syscall(number, parent, parent, 0) == 0:
    return f'may signal thread {parent}'
  return ''


def fork_without_end(most):
  children = []
  try:
    for _ in range(most):
      pid = os.fork()
      if pid == 0:
        time.sleep(20)
        os._exit(0)
      children.append(pid)
  except OSError:
    return ''
  finally:
    for pid in children:
      os.kill(pid, signal.SIGKILL)
      os.waitpid(pid, 0)
  return f'{most} processes at once'


def leave_daemon(name):
  """Leaves a process called `name`; the host checks whether it survives."""
  try:
    pid = os.fork()
  except OSError:
    return ''
  if pid == 0:
    os.setsid()
    if os.fork() == 0:
      ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)
      time.sleep(20)
    os._exit(0)
  os.waitpid(pid, 0)
  time.sleep(0.1)
  return ''


def take_memory(limit):
  try:
    return f'{len(bytearray(limit))} bytes of memory'
  except MemoryError:
    return ''


def fill_disk(limit):
  signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  path = f'/tmp/probe{os.getpid()}'
  try:
    with open(path, 'wb') as file:
      while file.tell() < limit:
        file.write(b'x' * 2**20)
      return f'a file of {file.tell()} bytes'
  except OSError:
    return ''
  finally:
    with contextlib.suppress(OSError):
      os.unlink(path)


def gain_privileges(parent):
  libc = ctypes.CDLL(None, use_errno=True)
  if libc.unshare(0x10000000) == 0:
    return 'made a user namespace'
  if libc.ptrace(16, parent, None, None) == 0:
    return f'traces process {parent}'
  with contextlib.suppress(OSError):
    os.setuid(0)
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != 0:
      return 'became root'
  return ''
