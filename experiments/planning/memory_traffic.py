"""Bytes of main memory that one instruction reads and writes.

A fusion reads its operands and writes its result, and what is between them
never leaves the chip. Of an operand that is only sliced, the slices count; of a
result that is updated in place, what is new. Arrays that the compiler placed in
another memory cost nothing.
"""

from collections.abc import Mapping
import math

from experiments.planning import hlo

Computation = Mapping[str, hlo.Instruction]

_REFERRING = ('bitcast', 'reshape', 'copy', 'convert', 'transpose')
_SLICES = ('dynamic-slice', 'slice', 'gather')
_UPDATES = ('dynamic-update-slice', 'scatter')


def of_instruction(
  module: hlo.Module, computation: Computation, instruction: hlo.Instruction
) -> float:
  """Bytes of an instruction that is itself in no fusion."""
  opcode = instruction.opcode
  operands = [computation[n] for n in instruction.operands]
  if opcode == 'custom-call' and not operands:
    return 0.0  # sets a buffer aside
  if opcode in _SLICES:
    return 2.0 * instruction.bytes
  if opcode in _UPDATES:
    return 2.0 * _size(_update(computation, instruction))
  if opcode in ('copy-start', 'slice-start', 'async-start'):
    return float(_copied(instruction))
  if opcode != 'fusion':
    return float(sum(o.bytes for o in operands) + instruction.bytes)
  [name] = instruction.called('calls')
  parameters = module.parameters(name)
  read = sum(
    min(operand.bytes, _read(module, name, parameter))
    for operand, parameter in zip(operands, parameters, strict=True)
    if operand.bytes
  )
  return read + _written(module, name, instruction)


def _copied(instruction):
  """A copy between memories; its result is (written, read, ...) or reverse."""
  arrays = [a for a in instruction.arrays if a.dims]
  if len(arrays) < 2:
    return 0.0
  size = min(a.bytes for a in arrays[:2])
  return size * sum(not a.space for a in arrays[:2])


def _read(module, name, source):
  """Bytes that a fused computation reads of one of its parameters."""
  if source.is_root:
    return math.inf  # it goes on outside
  total = 0.0
  for user in module.computations[name].values():
    if source.name not in user.operands:
      continue
    if user.opcode in _SLICES:
      total += _size(user)
    elif user.opcode in ('bitcast', 'get-tuple-element'):
      total += _read(module, name, user)
    elif user.opcode == 'fusion':
      total += _read_inside(module, name, user, source)
    elif user.opcode not in _UPDATES or user.operands[0] != source.name:
      return math.inf
  return total


def _read_inside(module, name, fusion, source):
  """The same of a value that a fusion inside the computation takes."""
  [inner] = fusion.called('calls')
  total = 0.0
  for parameter, operand in zip(module.parameters(inner), fusion.operands):
    if operand == source.name:
      found = _read(module, inner, parameter)
      # What it only passes on is read by those that take it.
      total += _read(module, name, fusion) if found == math.inf else found
  return total


def _written(module, name, instruction):
  """Bytes that a fusion writes."""
  computation, root = module.computations[name], module.root(name)
  parts = [root]
  if root.opcode == 'tuple':
    parts = [computation[n] for n in root.operands]
  if len(parts) != len(instruction.arrays):
    return float(instruction.bytes)
  return sum(
    0.0 if array.space else _new(module, computation, part, array)
    for part, array in zip(parts, instruction.arrays)
  )


def _new(module, computation, part, array):
  """Bytes of a result that were not there before."""
  while part.opcode in _REFERRING:
    part = computation[part.operands[0]]
  if part.opcode in _UPDATES:
    return _size(_update(computation, part))
  if part.opcode == 'fusion':
    [inner] = part.called('calls')
    body = module.computations[inner]
    return _new(module, body, module.root(inner), array)
  return array.bytes


def _update(computation, instruction):
  """What a slice update or a scatter puts in."""
  place = -1 if instruction.opcode == 'scatter' else 1
  return computation[instruction.operands[place]]


def _size(instruction):
  return sum(a.bytes for a in instruction.arrays)
