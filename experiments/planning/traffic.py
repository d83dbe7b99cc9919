"""Bytes that one device receives from other chips, collective by collective."""

from collections.abc import Mapping
import dataclasses
import math
import re

from experiments.planning import hlo

# Of the larger of operand and result, in a group of g devices; in a ring, each
# device receives every part but its own, and twice where it also adds up.
_SHARES = {
  'all-gather': lambda g: (g - 1) / g,
  'reduce-scatter': lambda g: (g - 1) / g,
  'all-to-all': lambda g: (g - 1) / g,
  'ragged-all-to-all': lambda g: (g - 1) / g,
  'all-reduce': lambda g: 2 * (g - 1) / g,
  'collective-permute': lambda g: 1.0,
  'collective-broadcast': lambda g: 1.0,
}
_BEGINS = '"flag_start":"-1"'
_CHAIN = re.compile(r'chain_id="(\d+)"')


@dataclasses.dataclass(frozen=True)
class Chain:
  """A transfer that the TPU compiler cut into pieces, one in each fusion.

  Attributes:
    name: of its own.
    received: bytes, of all pieces together.
    first: the fusion that begins it.
    last: the fusion after which it is there.
  """

  name: str
  received: float
  first: str
  last: str


def received(
  module: hlo.Module,
  computation: Mapping[str, hlo.Instruction],
  instruction: hlo.Instruction,
) -> float:
  """Bytes that a collective, or the start of one, brings; else 0.

  A fusion with a collective in it counts where it has no chain of others.
  """
  kind = instruction.opcode.removesuffix('-start')
  if kind in _SHARES:
    return _received(computation, instruction, kind)
  if kind not in ('async', 'fusion'):
    return 0.0
  inside = _collectives(module, instruction)
  return sum(
    _received(body, inner, inner.opcode)
    for body, inner in inside
    if not _CHAIN.search(inner.attributes)
  )


def chains(
  module: hlo.Module, computation: Mapping[str, hlo.Instruction]
) -> dict[str, Chain]:
  """The chain of each fusion that is part of one."""
  members = {}
  for instruction in computation.values():
    if instruction.opcode == 'fusion':
      for body, inner in _collectives(module, instruction):
        if chain := _CHAIN.search(inner.attributes):
          begins = _BEGINS in inner.attributes
          size = _received(body, inner, inner.opcode) if begins else 0.0
          members.setdefault(chain[1], []).append((instruction.name, size))
  found = {}
  for key, parts in members.items():
    names = [name for name, _ in parts]
    size = sum(size for _, size in parts)
    if size:  # else a loop in whose passes a transfer of outside goes on
      chain = Chain(f'chain {key}', size, names[0], names[-1])
      found |= dict.fromkeys(names, chain)
  return found


def _collectives(module, instruction):
  """Pairs of computation and collective inside a fusion or async start."""
  names = instruction.called('calls') + instruction.called('async_wrapped')
  for name in names:
    body = module.computations[name]
    for inner in body.values():
      if inner.opcode in _SHARES:
        yield body, inner


def _received(computation, instruction, kind):
  operands = sum(_size(computation[n]) for n in instruction.operands)
  result = _size(instruction)
  if instruction.opcode.endswith('-start'):
    result -= operands  # a start's result holds its operands too
  share = _SHARES[kind](_group_size(instruction.attributes))
  return max(operands, result) * share


def _size(instruction):
  return sum(a.bytes for a in instruction.arrays)


def _group_size(attributes):
  """Devices that take part, in each of the ways that HLO writes groups."""
  mesh = re.search(r'replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}', attributes)
  if mesh:
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh[1]))
    return math.prod(int(sizes[n]) for n in re.findall(r"'([^']+)'", mesh[2]))
  regular = re.search(r'replica_groups=\[(\d+),(\d+)\]', attributes)
  if regular:
    return int(regular[2])
  listed = re.search(r'replica_groups=\{\{([\d,]*)\}', attributes)
  return len(listed[1].split(',')) if listed else 1
