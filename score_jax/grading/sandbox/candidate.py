"""Inside the sandbox: loads a program and calls its functions on request.

Nothing here is trusted: the program shares this interpreter and may change any
of it. It can only ever send plain data, which the runner compares with values
that are never sent here. Runs behind the text of tagged_json.py (and
restrict.py in the Landlock sandbox), started with `python -c`.
"""

import json
import os
import resource
import struct
import sys
import types

from score_jax.grading.sandbox import tagged_json


class Candidate:
  """The program's module, and the objects the runner has handles for."""

  def __init__(self):
    self._module = types.ModuleType('candidate')
    # dataclasses and typing look up the module of a class by its name.
    sys.modules['candidate'] = self._module
    self._objects = []

  def load(self, source):
    """Runs source text in the program's module."""
    exec(compile(source, '<program>', 'exec'), self._module.__dict__)

  def get(self, name):
    """The program's global of this name, encoded."""
    if name not in self._module.__dict__:
      raise NameError(f'name {name!r} is not defined')
    return self._encode(self._module.__dict__[name])

  def call(self, handle, arguments, named):
    """(result, arguments after the call), encoded.

    The arguments go back as well because tests of functions that change a list
    in place look at their own copy of it.
    """
    function = self._objects[handle]
    arguments = [self._decode(value) for value in arguments]
    named = {name: self._decode(value) for name, value in named.items()}
    result = function(*arguments, **named)
    return self._encode(result), [self._encode(a) for a in arguments]

  def held(self, handle):
    """The object behind a handle."""
    return self._objects[handle]

  def _encode(self, value):
    return tagged_json.Encoder(self._to_handle).encode(value)

  def _decode(self, data):
    return tagged_json.decode(data, self._from_handle)

  def _to_handle(self, value):
    self._objects.append(value)
    return ['h', len(self._objects) - 1, callable(value)]

  def _from_handle(self, data):
    return self._objects[data[1]]


def limit(limits):
  """Lowers the process's limits for good; hard limits cannot be raised."""
  for name, value in limits.items():
    kind = getattr(resource, 'RLIMIT_' + name)
    # A second of grace: at the soft limit SIGXCPU, at the hard one SIGKILL.
    hard = value + (name == 'CPU')
    _, ceiling = resource.getrlimit(kind)
    if ceiling != resource.RLIM_INFINITY:
      value, hard = min(value, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (value, hard))


def _answer(candidate, request):
  operation = request.pop('op')
  try:
    if operation == 'load':
      candidate.load(request['source'])
      return {'value': None}
    if operation == 'get':
      return {'value': candidate.get(request['name'])}
    if operation == 'truth':
      return {'value': bool(candidate.held(request['handle']))}
    if operation == 'time':
      used = resource.getrusage(resource.RUSAGE_SELF)
      return {'value': used.ru_utime + used.ru_stime}
    result, arguments = candidate.call(**request)
    return {'value': result, 'arguments': arguments}
  except BaseException as error:  # SystemExit is an answer too
    return {'error': type(error).__name__, 'message': str(error)[:300]}


def serve(requests, replies):
  """Answers requests from one descriptor on the other until it closes."""
  requests = os.fdopen(requests, 'rb')
  replies = os.fdopen(replies, 'wb')
  candidate = Candidate()
  while True:
    header = requests.read(4)
    if len(header) < 4:
      # Not sys.exit: the program may have registered handlers or threads.
      os._exit(0)
    request = json.loads(requests.read(struct.unpack('>I', header)[0]))
    try:
      body = json.dumps(_answer(candidate, request)).encode()
    except BaseException as error:  # a reply that has no JSON
      body = json.dumps({'error': type(error).__name__, 'message': ''}).encode()
    replies.write(struct.pack('>I', len(body)) + body)
    replies.flush()
