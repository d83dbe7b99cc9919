"""Runs trusted tests against a program that is not trusted.

The tests run here; the names that they use and do not define stand for objects
of the program, reached through a sandbox session. What comes back is plain
data, so that no object of the program takes part in a comparison: the program
never grades itself and never sees an expected value. Runs in grader processes.
"""

import ast
import builtins
from collections.abc import Mapping, Sequence
import dataclasses
import importlib
import sys
from typing import Any

from score_jax.grading.sandbox import launch, session, tagged_json


class OpaqueError(Exception):
  """A test needs the contents of an object that is no plain data."""


class ProgramError(Exception):
  """The program raised something that is no builtin exception."""


class Handle:
  """An object of the program, which can be called and passed back only."""

  def __init__(self, owner: session.Session, data: Sequence[Any]):
    self._owner = owner
    self._data = list(data)

  def __call__(self, *arguments: Any, **named: Any) -> Any:
    sent = [_encode(argument) for argument in arguments]
    reply = self._owner.request(
      'call',
      handle=self._data[1],
      arguments=sent,
      named={name: _encode(value) for name, value in named.items()},
    )
    result = _value(self._owner, reply)
    changed = reply.get('arguments')
    if isinstance(changed, list) and len(changed) == len(sent):
      for argument, before, after in zip(arguments, sent, changed):
        if before != after:
          _update(argument, _decode(self._owner, after))
    return result

  def _opaque(self, *unused: Any) -> Any:
    del unused
    raise OpaqueError('the program returned an object, not plain data')

  def __bool__(self) -> bool:
    # Gives the program no more power than to return True, which it has anyway.
    reply = self._owner.request('truth', handle=self._data[1])
    return _value(self._owner, reply) is True

  # A comparison of the program's own would be true of every value.
  __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _opaque
  __len__ = __iter__ = __getitem__ = __contains__ = _opaque
  __hash__ = None


def _to_handle(value: Any) -> list[Any]:
  if isinstance(value, Handle):
    return value._data
  raise TypeError(f'a test passes a {type(value).__name__} to the program')


def _encode(value: Any) -> Any:
  return tagged_json.Encoder(_to_handle).encode(value)


def _decode(owner: session.Session, data: Any) -> Any:
  try:
    return tagged_json.decode(data, lambda held: Handle(owner, held))
  except (ValueError, TypeError, IndexError, RecursionError) as error:
    raise OpaqueError(f'the reply is no plain data: {error}') from error


def _value(owner: session.Session, reply: Mapping[str, Any]) -> Any:
  """The reply's value, or the program's exception raised here."""
  if 'error' not in reply:
    return _decode(owner, reply.get('value'))
  name, message = str(reply['error'])[:80], str(reply.get('message'))[:300]
  kind = getattr(builtins, name, None)
  if (
    isinstance(kind, type)
    and issubclass(kind, Exception)
    and not issubclass(kind, AssertionError | UnicodeError)
  ):
    raise kind(message)
  raise ProgramError(f'{name}: {message}')


def _update(argument: Any, after: Any) -> None:
  """Repeats on a test's own object what the program did to its copy."""
  if type(argument) is not type(after):
    return
  if isinstance(argument, list | bytearray):
    argument[:] = after
  elif isinstance(argument, dict | set):
    argument.clear()
    argument.update(after)


def free_names(source: str) -> list[str]:
  """Names that test code uses, and that it does not define or import."""
  used, bound = set(), set(dir(builtins))
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Name):
      (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
    elif isinstance(node, ast.arg):
      bound.add(node.arg)
    elif isinstance(node, ast.FunctionDef | ast.ClassDef):
      bound.add(node.name)
    elif isinstance(node, ast.Import | ast.ImportFrom):
      bound |= {(a.asname or a.name).split('.')[0] for a in node.names}
    elif isinstance(node, ast.ExceptHandler) and node.name:
      bound.add(node.name)
  return sorted(used - bound)


def entry_point(tests: Sequence[str]) -> str:
  """The function that tests call: the first free name called in them.

  Where every called name is a builtin, it is the first of these: MBPP 126
  asks for a function called `sum`.

  Raises:
    ValueError: the tests call nothing.
  """
  builtin = []
  for test in tests:
    free = set(free_names(test))
    calls = [
      node.func.id
      for node in ast.walk(ast.parse(test))
      if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    called = [name for name in calls if name in free]
    if called:
      return called[0]
    builtin += calls
  if builtin:
    return builtin[0]
  raise ValueError(f'no function of the program is called in {tests!r}')


@dataclasses.dataclass(frozen=True)
class Suite:
  """The tests of a program, and what they need; all of it is trusted.

  Attributes:
    tests: pieces of test code; each passes or fails on its own.
    entry_point: the program's function, even where a builtin has its name.
    prelude: code the program may rely on, run before it in the sandbox.
    setup: code run after the program in the sandbox.
    helpers: code the tests rely on, run here (imports, the prompt's helpers).
  """

  tests: Sequence[str]
  entry_point: str
  prelude: str = ''
  setup: str = ''
  helpers: str = ''


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The result of a program's tests.

  Attributes:
    label: 'correct', 'wrong', 'timeout' or 'crash'.
    passed: whether each test passed, up to where the program ended.
    reason: one line about the first failure.
    cpu_seconds: CPU time by the program's own account, to be trusted for
      references only.
  """

  label: str
  passed: tuple[bool, ...]
  reason: str = ''
  cpu_seconds: float = 0.0


def run(
  sandbox: launch.Sandbox, limits: launch.Limits, source: str, suite: Suite
) -> Outcome:
  """Runs all tests of a suite in one start of the sandbox.

  Raises:
    SandboxFailedError: the sandbox did not start; says nothing of the program.
  """
  passed: list[bool] = []
  reasons: list[str] = []
  with session.Session(sandbox, limits) as program:
    try:
      for code in (suite.prelude, source, suite.setup):
        if code:
          _value(program, program.request('load', source=code))
      for test in suite.tests:
        reason = _failure(program, suite, test)
        passed.append(reason is None)
        reasons += [] if reason is None else [reason]
      used = program.request('time').get('value')
    except session.ProgramTimeoutError as error:
      return Outcome('timeout', tuple(passed), str(error))
    except session.ProgramEndedError as error:
      return Outcome('crash', tuple(passed), str(error))
    except session.SandboxFailedError:
      raise
    except Exception as error:  # the program's own, while loading
      reason = f'loading the program: {type(error).__name__}: {error}'
      return Outcome('wrong', (), reason[:200])
  label = 'correct' if passed and all(passed) else 'wrong'
  used = float(used) if isinstance(used, int | float) else 0.0
  return Outcome(label, tuple(passed), '; '.join(reasons)[:200], used)


def _failure(program: session.Session, suite: Suite, test: str) -> str | None:
  """The reason why one test fails, None where it passes."""
  # A namespace per test: no test sees what another one has defined.
  space: dict[str, Any] = {'__name__': 'tests'}
  exec(compile(suite.helpers, '<helpers>', 'exec'), space)
  try:
    wanted = {suite.entry_point, *free_names(test)}
    for name in sorted(wanted - set(space)):
      if name in sys.stdlib_module_names and name != suite.entry_point:
        # Some of MBPP's tests count on an import of the program.
        space[name] = importlib.import_module(name)
        continue
      reply = program.request('get', name=name)
      if 'error' not in reply:
        space[name] = _value(program, reply)
    exec(compile(test, '<test>', 'exec'), space)
  except (
    session.ProgramTimeoutError,
    session.ProgramEndedError,
    session.SandboxFailedError,
  ):
    raise
  except AssertionError:
    return f'failed: {_first_line(test)}'
  except Exception as error:  # whatever the program made a test do
    return f'{type(error).__name__}: {error} in {_first_line(test)}'
  return None


def _first_line(test: str) -> str:
  return next((line.strip() for line in test.splitlines() if line.strip()), '')
