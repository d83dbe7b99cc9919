"""How often a loop of a compiled program is run."""

import re

from experiments.planning import hlo

# What leaves a number as it is.
_SAME = ('copy', 'bitcast', 'convert', 'reshape')


def trip_count(
  module: hlo.Module, computation: hlo.Computation, loop: hlo.Instruction
) -> int | None:
  """Passes of a `while`; None where only the data decide.

  What the compiler says, else, for a counter that is compared with a constant,
  what its start, step and end make.
  """
  known = re.search(r'known_trip_count\D+(\d+)', loop.attributes)
  if known:
    return int(known[1])
  [condition], [body] = loop.called('condition'), loop.called('body')
  test = module.root(condition)
  direction = re.search(r'direction=(\w+)', test.attributes)
  if test.opcode != 'compare' or direction[1] not in ('LT', 'NE', 'GT'):
    return None
  start = _inputs(computation, loop)
  ends = [_trace(module.computations[condition], n) for n in test.operands]
  values = [_at(end, start) for end in ends]
  steps = [_step(module, body, end) for end in ends]
  if None in values or None in steps:
    return None
  # From `first - second` at the start, by so much a pass, until it is 0.
  distance, step = values[0] - values[1], steps[0] - steps[1]
  if step == 0 or distance * step > 0:
    return None
  return -(-abs(distance) // abs(step))


def _inputs(computation, loop):
  """Numbers, or None, that the parts of a loop's carry start with."""
  carry = computation[loop.operands[0]]
  while carry.opcode in ('copy', 'optimization-barrier'):
    carry = computation[carry.operands[0]]
  if carry.opcode != 'tuple':
    return []
  return [_at(_trace(computation, name), []) for name in carry.operands]


def _trace(computation, name):
  """Where a number comes from: ('constant', n), ('part', i) or None."""
  instruction = computation[name]
  while instruction.opcode in _SAME:
    instruction = computation[instruction.operands[0]]
  if instruction.opcode == 'constant':
    try:
      return 'constant', int(instruction.arguments)
    except ValueError:
      return None
  if instruction.opcode != 'get-tuple-element':
    return None
  if computation[instruction.operands[0]].opcode != 'parameter':
    return None
  return 'part', instruction.number('index')


def _at(origin, start):
  """The number itself, or the carry's part's first value."""
  if origin is None:
    return None
  kind, value = origin
  if kind == 'constant':
    return value
  return start[value] if value < len(start) else None


def _step(module, body, origin):
  """What a pass adds to what the condition compares; None if not a constant."""
  if origin is None:
    return None
  kind, part = origin
  if kind == 'constant':
    return 0
  computation = module.computations[body]
  result = module.root(body)
  if result.opcode != 'tuple':
    return None
  return _added(module, computation, result.operands[part], part)


def _added(module, computation, name, part):
  """The constant n in `part + n`, 0 for the part itself, else None."""
  instruction = computation[name]
  while instruction.opcode in _SAME:
    instruction = computation[instruction.operands[0]]
  if instruction.opcode == 'add':
    origins = [_trace(computation, n) for n in instruction.operands]
    numbers = [o[1] for o in origins if o and o[0] == 'constant']
    return numbers[0] if ('part', part) in origins and numbers else None
  return 0 if _trace(computation, instruction.name) == ('part', part) else None
