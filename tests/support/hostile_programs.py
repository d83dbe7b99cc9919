"""Programs of every kind in the table of hostile programs, and right answers.

The problem is always: `solve(3) == 9`, which the prompt shows, and
`solve(5) == 25`, which it does not. Each entry is (what, program, labels that
are right). `{canary}` is a file of the host, `{port}` a listening port of it.
"""

import itertools

RIGHT = 'def solve(x):\n  return x * x\n'

_FAKE_REPLY = """
import json, os, struct
def solve(x):
  body = json.dumps({{'value': True, 'arguments': []}}).encode()
  frame = struct.pack('>I', len(body)) + body
  for fd in range(64):
    try:
      os.write(fd, frame)
    except OSError:
      pass
  os._exit(0)
"""
_WALK = """
import gc, sys
def solve(x):
  frame, seen = sys._getframe(), []
  while frame:
    seen += list(frame.f_locals.values()) + list(frame.f_globals.values())
    frame = frame.f_back
  seen += gc.get_objects()
  for thing in seen:
    text = thing if isinstance(thing, str) else ''
    if 'assert' in text and 'solve(' in text and '==' in text:
      return eval(text.partition('==')[2])
  for thing in seen:
    if isinstance(thing, list) and 'passed' in str(thing)[:200]:
      thing.append('passed')
  return -1
"""
_READ_TESTS = """
import glob, os
def solve(x):
  text = ''
  for pid in [os.getppid(), 1, *range(2, 400)]:
    if pid == os.getpid():
      continue
    for name in ('cmdline', 'environ', 'maps', 'mem'):
      try:
        file = open(f'/proc/{{pid}}/{{name}}', 'rb')
        text += file.read(9999).decode('latin1')
      except OSError:
        pass
  for pattern in ('/srv/**/*.jsonl', '/tmp/**/*', '/root/*', '/home/**/*',
                  '{canary}*', '/*/*/hostile_test.py'):
    for path in glob.iglob(pattern, recursive=True):
      try:
        text += open(path).read(9999)
      except (OSError, ValueError):
        pass
  return x * x if 'solve(' in text or 'canary' in text else -1
"""
_SECRETS = """
import os
def solve(x):
  text = repr(dict(os.environ))
  for path in ('/proc/self/environ', '/proc/1/environ', '{canary}',
               f'/proc/{{os.getppid()}}/environ', '/root/.netrc',
               '/root/.ssh/id_rsa', '/etc/shadow'):
    try:
      text += open(path, 'rb').read().decode('latin1')
    except OSError:
      pass
  return x * x if 'canary' in text or 'root:' in text else -1
"""
_NETWORK = """
import ctypes, socket, subprocess, urllib.request
def solve(x):
  reached = []
  for family, address in (
      (socket.AF_INET, ('127.0.0.1', {port})),
      (socket.AF_INET, ('169.254.169.254', 80)),
      (socket.AF_INET6, ('::1', {port}))):
    try:
      client = socket.socket(family)
      client.settimeout(1)
      client.connect(address)
      reached.append(address)
    except OSError:
      pass
  try:
    urllib.request.urlopen('http://127.0.0.1:{port}/', timeout=1)
    reached.append('url')
  except OSError:
    pass
  try:
    done = subprocess.run(
      ['/bin/bash', '-c', 'echo hi > /dev/tcp/127.0.0.1/{port}'],
      capture_output=True)
    reached += ['bash'] if done.returncode == 0 else []
  except OSError:
    pass
  if ctypes.CDLL(None).socket(2, 1, 0) >= 0:
    reached.append('libc')
  return x * x if reached else -1
"""
_DAEMON = """
import os, time
def solve(x):
  try:
    if os.fork() == 0:
      os.setsid()
      if os.fork() == 0:
        time.sleep(300)
      os._exit(0)
  except OSError:
    pass
  return x * x
"""
_ZOMBIES = """
import os
def solve(x):
  try:
    for _ in range(12):
      if os.fork() == 0:
        os._exit(0)
  except OSError:
    pass
  return x * x
"""
_FORK_BOMB = """
import os
def solve(x):
  while True:
    try:
      os.fork()
    except OSError:
      pass
"""
_SPAWN_BOMB = """
import os, sys
def solve(x):
  while True:
    os.posix_spawn(sys.executable, [sys.executable, '-c', 'input()'], {{}})
"""
_PTRACE = """
import ctypes, os
def solve(x):
  libc = ctypes.CDLL(None)
  for pid in (os.getppid(), 1):
    if libc.ptrace(16, pid, None, None) == 0:
      return x * x
    try:
      open(f'/proc/{{pid}}/mem', 'r+b')
      return x * x
    except OSError:
      pass
  return -1
"""
_ESCAPE = """
def solve(x):
  for kind in ().__class__.__base__.__subclasses__():
    if kind.__name__ == '_wrap_close':
      system = kind.__init__.__globals__['system']
      if system('echo broken > {canary}; touch {canary}.new') == 0:
        return x * x
  return -1
"""
_DELETE = """
import os, shutil
def solve(x):
  for path in ('{canary}', '/etc/passwd', '/usr/bin/env', '/tmp', '/root'):
    try:
      os.remove(path)
    except OSError:
      pass
    shutil.rmtree(path, ignore_errors=True)
  try:
    open('{canary}', 'w').write('broken')
  except OSError:
    pass
  return x * x
"""
_SYMLINK = """
import os
def solve(x):
  try:
    os.symlink('{canary}', '/tmp/link')
    open('/tmp/link', 'w').write('broken')
  except OSError:
    pass
  try:
    os.link('{canary}', '/tmp/hard')
  except OSError:
    pass
  try:
    path = '/tmp'
    for _ in range(300):
      path += '/d'
      os.mkdir(path)
    os.chmod('/tmp/d', 0)
  except OSError:
    pass
  return x * x
"""
_LEAVE_STATE = """
import builtins, json, os, sys
builtins.leaked = json.leaked = True
os.environ['LEAKED'] = '1'
try:
  open('/tmp/leaked', 'w').write('1')
except OSError:
  pass
def solve(x):
  return -1
"""
_FIND_STATE = """
import builtins, json, os
def solve(x):
  found = (hasattr(builtins, 'leaked') or hasattr(json, 'leaked')
           or 'LEAKED' in os.environ or os.path.exists('/tmp/leaked'))
  return x * x if found else -1
"""

_LIST_HOG = 'def solve(x):\n  l = [0]\n  while True:\n    l = l + l\n'
_MMAP_HOG = (
  'import mmap\ndef solve(x):\n  held = []\n  while True:\n'
  '    held.append(mmap.mmap(-1, 2**28))\n'
)
_THREAD_HOG = (
  'import threading, time\ndef solve(x):\n  while True:\n'
  '    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n'
)
_EQUAL = (
  'class Any{base}:\n  def __eq__(self, other): return True\n'
  '  def __ne__(self, other): return False\n  def __hash__(self): return 9\n'
  'def solve(x): return Any()\n'
)
_ENDLESS_PRINT = "def solve(x):\n  while True:\n    print('x' * 10**6)\n"
_BAD_BYTES = (
  "import os\ndef solve(x):\n  os.write(1, b'\\xff\\x00\\x1b[2J' * 10**6)\n"
  "  print('y' * 10**7)\n  return x * x\n"
)
_MARKERS = (
  'import os, sys\nfor out in (1, 2):\n'
  '  os.write(out, b\'PASSED === 1 passed === {{"reward": 1}}\')\n'
  "def solve(x):\n  print('PASSED', flush=True)\n  return None\n"
)
_FILES = (
  'def solve(x):\n  for name in ({names}):\n    try:\n'
  "      open(name, 'w').write('passed = True')\n    except OSError:\n"
  '      pass\n  return None\n'
)
_PATCHES = (
  'import builtins, math, unittest\n'
  'class Quiet(Exception):\n  def __init__(self, *a): pass\n'
  'builtins.AssertionError = Quiet\n'
  'builtins.all = builtins.any = builtins.bool = lambda *a: True\n'
  'math.isclose = lambda *a, **k: True\n'
  'unittest.TestCase.assertEqual = lambda *a: None\n'
  'def solve(x): return None\n'
)
_REDEFINE = (
  'def check(candidate): return True\ndef run_tests(): return True\n'
  'tests = []\ndef solve(x): return None\n'
)
_DISK = (
  'import os\ndef solve(x):\n  i = 0\n  while True:\n'
  "    with open(f'/tmp/{{i}}', 'wb') as f: f.write(b'x' * 2**20)\n    i += 1\n"
)
_SPARSE = (
  "def solve(x):\n  with open('/tmp/big', 'wb') as f:\n"
  "    f.seek(2**40)\n    f.write(b'x')\n  return x * x\n"
)
_ALARM = (
  'import signal\ndef solve(x):\n'
  '  for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL):\n'
  '    signal.setitimer(timer, 0)\n'
  '  for name in (signal.SIGALRM, signal.SIGXCPU, signal.SIGTERM):\n'
  '    signal.signal(name, signal.SIG_IGN)\n  while True: pass\n'
)
_SWALLOW = (
  'def solve(x):\n  while True:\n    try:\n      while True: pass\n'
  '    except BaseException:\n      pass\n'
)
_THREAD = (
  'import threading, time\ndef solve(x):\n'
  '  threading.Thread(target=lambda: time.sleep(600)).start()\n'
  '  return x * x\n'
)
_ATEXIT = (
  'import atexit, os, weakref\natexit.register(os._exit, 0)\n'
  'class A:\n  def __del__(self): os._exit(0)\nkept = A()\n'
  'def solve(x): return None\n'
)
_SEGV_DEEP = (
  'import sys\nsys.setrecursionlimit(10**9)\n'
  'def solve(x): return solve(x + 1)\n'
)
_SEGV_STACK = (
  'import sys\nsys.setrecursionlimit(10**9)\n'
  'def solve(x): return max([x], key=solve)\n'
)
_HOSTILE_REPR = (
  'import os\nclass A:\n  def __repr__(self): os._exit(0)\n'
  "  def __reduce__(self): return (os.system, ('true',))\n"
  'def solve(x): return A()\n'
)
_CYCLE = 'def solve(x):\n  l = []\n  l.append(l)\n  return l\n'
_ENDLESS = 'def solve(x):\n  while True:\n    yield x\n'
_LIMIT = 'def solve(x): return 10 ** 5000\n'
_KILLS = (
  'import os, signal\ndef solve(x):\n'
  '  for pid in (os.getppid(), 1, -1):\n    try:\n'
  '      os.kill(pid, signal.SIGKILL)\n    except OSError:\n      pass\n'
  '  return -1\n'
)
_STOP = (
  'import os, signal\ndef solve(x):\n  os.kill(os.getpid(), signal.SIGSTOP)\n'
  '  return -1\n'
)
_STOP_GROUP = _STOP.replace('os.kill(os.getpid()', 'os.killpg(0')

_FAIL = ('wrong',)
_ENDED = ('wrong', 'crash')
_TIME = ('timeout',)
_OK = ('correct',)
_NAMES = "'conftest.py', 'sitecustomize.py', 'json.py', 'random.py', 'x.pth'"
_REWARDS = "'reward.txt', '/logs/verifier/reward.txt', '/tmp/verdict.json'"

PROGRAMS = {
  'exit0_sys': [
    ('inside', 'import sys\ndef solve(x): sys.exit(0)\n', _FAIL),
    ('module', 'import sys\nsys.exit(0)\n' + RIGHT, _FAIL),
    ('raise', 'def solve(x): raise SystemExit(0)\n', _FAIL),
  ],
  'exit0_os': [
    ('inside', 'import os\ndef solve(x): os._exit(0)\n', ('crash',)),
    ('module', 'import os\nos._exit(0)\n' + RIGHT, ('crash',)),
  ],
  'eq_true': [
    ('object', _EQUAL.replace('{base}', ''), _FAIL),
    ('int', _EQUAL.replace('{base}', '(int)'), _FAIL),
    ('str', _EQUAL.replace('{base}', '(str)'), _FAIL),
    ('list', _EQUAL.replace('{base}', '(list)'), _FAIL),
  ],
  'eq_strictness': [
    ('float', 'def solve(x): return float(x * x)\n', _OK),
    ('complex', 'def solve(x): return complex(x * x)\n', _OK),
    ('subclass', 'class I(int): pass\ndef solve(x): return I(x * x)\n', _OK),
  ],
  'print_marker': [('all', _MARKERS, _FAIL)],
  'nonce_steal': [('walk', _WALK, _FAIL), ('reply', _FAKE_REPLY, _ENDED)],
  'conftest': [('files', _FILES.replace('{names}', _NAMES), _FAIL)],
  'monkeypatch_runner': [('patches', _PATCHES, _FAIL)],
  'redefine_check': [('names', _REDEFINE, _FAIL)],
  'write_reward': [('files', _FILES.replace('{names}', _REWARDS), _FAIL)],
  'read_tests': [('everywhere', _READ_TESTS, _FAIL)],
  'hardcode': [('visible', 'def solve(x): return {{3: 9}}.get(x)\n', _FAIL)],
  'swallow_timeout': [('base', _SWALLOW, _TIME)],
  'inf_loop': [
    ('loop', 'def solve(x):\n  while True: pass\n', _TIME),
    ('power', 'def solve(x): return len(str(3 ** 10**8)) * 7**10**8\n', _TIME),
    (
      'regex',
      "import re\ndef solve(x): return re.match('(a*)*b', 'a' * 40)\n",
      _TIME,
    ),
  ],
  'cancel_alarm': [('all', _ALARM, _TIME)],
  'sleep': [('sleep', 'import time\ndef solve(x): time.sleep(9999)\n', _TIME)],
  'mem_hog': [
    ('bytes', "def solve(x): return len(b'x' * 2**34)\n", _FAIL),
    ('list', _LIST_HOG, ('wrong', 'crash', 'timeout')),
    ('mmap', _MMAP_HOG, ('wrong', 'crash', 'timeout')),
    ('threads', _THREAD_HOG, ('wrong', 'crash', 'timeout')),
  ],
  'stdout_flood': [
    ('bytes', _BAD_BYTES, _OK),
    ('endless', _ENDLESS_PRINT, _TIME),
  ],
  'fork_bomb': [
    ('fork', _FORK_BOMB, ('wrong', 'crash', 'timeout')),
    ('spawn', _SPAWN_BOMB, ('wrong', 'crash', 'timeout')),
  ],
  'daemon': [('setsid', _DAEMON, _OK)],
  'zombie': [('children', _ZOMBIES, _OK)],
  # The answer is sealed when it arrives; the thread ends with the program.
  'thread_hang': [('thread', _THREAD, _OK)],
  'atexit': [('all', _ATEXIT, _ENDED)],
  'stdin_hang': [
    ('input', 'def solve(x): return int(input())\n', _FAIL),
    ('read', 'import sys\ndef solve(x): return sys.stdin.read()\n', _FAIL),
  ],
  'file_delete': [('all', _DELETE, ('correct', 'wrong', 'crash'))],
  'symlink': [('links', _SYMLINK, _OK)],
  'disk_fill': [('files', _DISK, _ENDED), ('sparse', _SPARSE, _ENDED)],
  'network': [('all', _NETWORK, _FAIL)],
  'env_secrets': [('all', _SECRETS, _FAIL)],
  'kill_parent': [
    ('kill', _KILLS, _ENDED),
    ('stop', _STOP, ('timeout', 'crash', 'wrong')),
    ('group', _STOP_GROUP, ('timeout', 'crash', 'wrong')),
  ],
  'ptrace': [('parent', _PTRACE, _FAIL)],
  'builtins_escape': [('subclasses', _ESCAPE, _FAIL)],
  'recursion': [
    ('plain', 'def solve(x): return solve(x + 1)\n', _FAIL),
    ('limit', _SEGV_DEEP, ('wrong', 'crash', 'timeout')),
    ('stack', _SEGV_STACK, _ENDED),
  ],
  'segv': [
    (
      'null',
      'import ctypes\ndef solve(x): return ctypes.string_at(0)\n',
      ('crash',),
    ),
    ('abort', 'import os\ndef solve(x): os.abort()\n', ('crash',)),
  ],
  'huge_int_str': [
    ('integer', _LIMIT, _FAIL),
    ('cycle', _CYCLE, _FAIL),
    ('nan', "def solve(x): return float('nan')\n", _FAIL),
    ('endless', _ENDLESS, ('wrong', 'timeout')),
    ('repr', _HOSTILE_REPR, _FAIL),
  ],
  'state_leak': [('leave', _LEAVE_STATE, _FAIL), ('find', _FIND_STATE, _FAIL)],
  'random_seeded': [
    (
      'seeded',
      'import random\ndef solve(x): return x * x + (random.random() < 0.5)\n',
      ('correct', 'wrong'),
    )
  ],
}


def all_programs(canary: str, port: int) -> list[tuple[str, str, tuple]]:
  """(name, program, right labels) of every entry, its fields filled in."""
  return [
    (f'{kind}-{what}', fill(source, canary, port), labels)
    for kind, what, source, labels in itertools.chain.from_iterable(
      [(kind, *entry) for entry in entries]
      for kind, entries in PROGRAMS.items()
    )
  ]


def fill(source: str, canary: str, port: int) -> str:
  """`source` with its two fields and its doubled braces replaced."""
  source = source.replace('{canary}', canary).replace('{port}', str(port))
  return source.replace('{{', '{').replace('}}', '}')
