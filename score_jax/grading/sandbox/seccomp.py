"""System calls that a program may not make, as a BPF filter.

Classic BPF over `struct seccomp_data` (linux/seccomp.h): what is on the list
returns EPERM, calls of a foreign architecture kill the process, everything
else is allowed. It adds to namespaces and Landlock and does not replace them.
"""

import platform
import struct

# BPF opcodes: load a 32-bit word of seccomp_data; jump if equal, if any bit is
# set, if at least; return.
_LOAD, _RETURN = 0x20, 0x06
_JUMP_EQUAL, _JUMP_SET, _JUMP_AT_LEAST = 0x15, 0x45, 0x35
# Offsets in seccomp_data: the call's number, its architecture, its first
# argument (the low word, on a little-endian machine).
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, 16
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_EPERM, _ENOSYS = 0x00050000 | 1, 0x00050000 | 38
_CLONE_NAMESPACES = 0x7E020000
_CLONE_THREAD = 0x00010000
# Set in the numbers of the x32 interface, which a list of x86_64 misses.
_X32 = 0x40000000

# (x86_64, aarch64) numbers; None where the architecture has no such call.
_DENIED = {
  'socket': (41, 198),
  'ptrace': (101, 117),
  'process_vm_readv': (310, 270),
  'process_vm_writev': (311, 271),
  'mount': (165, 40),
  'umount2': (166, 39),
  'pivot_root': (155, 41),
  'chroot': (161, 51),
  'unshare': (272, 97),
  'setns': (308, 268),
  'open_tree': (428, 428),
  'move_mount': (429, 429),
  'fsopen': (430, 430),
  'fsmount': (432, 432),
  'mount_setattr': (442, 442),
  'bpf': (321, 280),
  'perf_event_open': (298, 241),
  'io_uring_setup': (425, 425),
  'io_uring_enter': (426, 426),
  'io_uring_register': (427, 427),
  'userfaultfd': (323, 282),
  'keyctl': (250, 219),
  'add_key': (248, 217),
  'request_key': (249, 218),
  'kexec_load': (246, 104),
  'kexec_file_load': (320, 294),
  'init_module': (175, 105),
  'finit_module': (313, 273),
  'delete_module': (176, 106),
  'personality': (135, 92),
  'reboot': (169, 142),
  'swapon': (167, 224),
  'swapoff': (168, 225),
  'acct': (163, 89),
  'quotactl': (179, 60),
  'open_by_handle_at': (304, 265),
  'pidfd_getfd': (438, 438),
  'kcmp': (312, 272),
}
# Without a pid namespace a program could reach the user's other processes, and
# its children would outlive it: it gets threads, and no signals to send.
_DENIED_WITHOUT_NAMESPACES = {
  'kill': (62, 129),
  'tkill': (200, 130),
  'rt_sigqueueinfo': (129, 138),
  'rt_tgsigqueueinfo': (297, 240),
  'pidfd_open': (434, 434),
  'pidfd_send_signal': (424, 424),
  'fork': (57, None),
  'vfork': (58, None),
  'setpriority': (141, 140),
  'sched_setaffinity': (203, 122),
  'sched_setscheduler': (144, 119),
  'shmget': (29, 194),
  'msgget': (68, 186),
  'semget': (64, 190),
  'mq_open': (240, 180),
}
_PRCTL, _PARENT_DEATH_SIGNAL = (157, 167), 1
_CLONE, _CLONE3 = (56, 220), (435, 435)
_ARCHITECTURES = {
  'x86_64': (0, 0xC000003E),
  'aarch64': (1, 0xC00000B7),
  'arm64': (1, 0xC00000B7),
}


def filter_program(*, threads_only: bool) -> bytes:
  """The filter as an array of `struct sock_filter`.

  Args:
    threads_only: also deny new processes and signals to others, for a sandbox
      without a pid namespace.

  Raises:
    NotImplementedError: an architecture whose numbers are not known.
  """
  if platform.machine() not in _ARCHITECTURES:
    raise NotImplementedError(
      f'no system call numbers for {platform.machine()}; known are '
      f'{", ".join(_ARCHITECTURES)}'
    )
  column, audit = _ARCHITECTURES[platform.machine()]
  names = _DENIED | (_DENIED_WITHOUT_NAMESPACES if threads_only else {})
  numbers = [n[column] for n in names.values() if n[column] is not None]
  code = [
    # The same number is another call in a foreign (say, 32-bit) interface.
    _instruction(_LOAD, _ARCHITECTURE),
    _instruction(_JUMP_EQUAL, audit, 1, 0),
    _instruction(_RETURN, _KILL),
    _instruction(_LOAD, _NUMBER),
  ]
  if column == 0:
    code += [
      _instruction(_JUMP_AT_LEAST, _X32, 0, 1),
      _instruction(_RETURN, _KILL),
    ]
  for number in numbers:
    code += [
      _instruction(_JUMP_EQUAL, number, 0, 1),
      _instruction(_RETURN, _EPERM),
    ]
  code += [
    # clone3's flags are in memory, which a filter cannot read; ENOSYS makes
    # glibc fall back to clone, whose flags are its first argument.
    _instruction(_JUMP_EQUAL, _CLONE3[column], 0, 1),
    _instruction(_RETURN, _ENOSYS),
    _instruction(_JUMP_EQUAL, _CLONE[column], 0, 5 if threads_only else 3),
    _instruction(_LOAD, _ARGUMENT),
    _instruction(_JUMP_SET, _CLONE_NAMESPACES, 0, 1),
    _instruction(_RETURN, _EPERM),
  ]
  if threads_only:
    code += [
      _instruction(_JUMP_SET, _CLONE_THREAD, 1, 0),
      _instruction(_RETURN, _EPERM),
    ]
    # Inserted before the six instructions about clone: the program may not
    # switch off the signal that ends it with its runner.
    code[-6:-6] = [
      _instruction(_JUMP_EQUAL, _PRCTL[column], 0, 4),
      _instruction(_LOAD, _ARGUMENT),
      _instruction(_JUMP_EQUAL, _PARENT_DEATH_SIGNAL, 0, 1),
      _instruction(_RETURN, _EPERM),
      _instruction(_RETURN, _ALLOW),
    ]
  code.append(_instruction(_RETURN, _ALLOW))
  return b''.join(code)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0):
  return struct.pack('<HBBI', code, if_true, if_false, value)
