"""Reads the text of a compiled program (`compiled.as_text()`).

Only what a cost model needs: which instruction runs how often, on arrays of
which size, in which memory. The grammar is XLA's HLO text, as CPU and TPU
compilers print it.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import math
import re

_HEAD = re.compile(r'^(ENTRY )?%?([\w.\-]+) .*\{$')
_LINE = re.compile(r'^\s+(ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)$')
_ARRAY = re.compile(r'(\w+)\[([\d,]*)\](?:\{([^}]*)\})?')
_SPACE = re.compile(r'S\((\d+)\)')
_NAME = re.compile(r'%([\w.\-]+)')
_KEYS = (
  'calls',
  'to_apply',
  'body',
  'condition',
  'branch_computations',
  'async_wrapped',
)
_CALLED = re.compile(rf'({"|".join(_KEYS)})=(\{{[^}}]*\}}|%?[\w.\-]+)')
_BITS = {
  'pred': 8,
  'token': 0,
  'opaque': 0,
  'c64': 64,
  'c128': 128,
}


@dataclasses.dataclass(frozen=True)
class Array:
  """An array of a program.

  Attributes:
    dtype: as HLO writes it, such as 'bf16'.
    dims: its dimensions.
    space: memory space of its layout; 0 is the device's main memory.
  """

  dtype: str
  dims: tuple[int, ...]
  space: int = 0

  @property
  def elements(self) -> int:
    """How many it has."""
    return math.prod(self.dims)

  @property
  def bytes(self) -> int:
    """Its size, without the padding of a tiled layout."""
    bits = _BITS.get(self.dtype)
    if bits is None:
      digits = re.search(r'\d+', self.dtype)
      bits = int(digits[0]) if digits else 8
    return -(-self.elements * bits // 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a program.

  Attributes:
    name: unique in the program.
    opcode: such as 'fusion' or 'while'.
    arrays: the result, a tuple's parts one after the other.
    operands: names of instructions of the same computation.
    arguments: what stands in the parentheses.
    attributes: what stands after them.
    is_root: whether it is its computation's result.
  """

  name: str
  opcode: str
  arrays: tuple[Array, ...]
  operands: tuple[str, ...]
  arguments: str
  attributes: str
  is_root: bool

  @property
  def bytes(self) -> int:
    """Of the result in main memory."""
    return sum(a.bytes for a in self.arrays if not a.space)

  def called(self, key: str) -> list[str]:
    """Names of computations that the attribute `key` refers to."""
    found = [
      value for name, value in _CALLED.findall(self.attributes) if name == key
    ]
    return [
      n.strip().lstrip('%') for v in found for n in v.strip('{}').split(',')
    ]

  def number(self, key: str) -> int | None:
    """An attribute that is a number, such as `index=3`."""
    found = re.search(rf'\b{key}=(\d+)', self.attributes)
    return int(found[1]) if found else None


Computation = Mapping[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
  """A program: computations by name, instructions in their order."""

  computations: Mapping[str, Computation]
  entry: str

  def root(self, computation: str) -> Instruction:
    """A computation's result."""
    body = self.computations[computation].values()
    return next(i for i in body if i.is_root)

  def parameters(self, computation: str) -> list[Instruction]:
    """A computation's parameters, in their order."""
    found = [
      i
      for i in self.computations[computation].values()
      if i.opcode == 'parameter'
    ]
    return sorted(found, key=lambda i: int(i.arguments))


def parse(text: str) -> Module:
  """Reads a program.

  Raises:
    ValueError: the text has no ENTRY computation.
  """
  computations, entry, current = {}, None, {}
  for line in text.splitlines():
    if line.startswith((' ', '\t')):
      if (instruction := _instruction(line)) is not None:
        current[instruction.name] = instruction
    elif head := _HEAD.match(line):
      current = computations[head[2]] = {}
      entry = head[2] if head[1] else entry
  if entry is None:
    raise ValueError('the text has no ENTRY computation: is it HLO?')
  return Module(computations, entry)


def _instruction(line):
  found = _LINE.match(line)
  if found is None:
    return None
  root, name, result, opcode, rest = found.groups()
  end = _closing(rest)
  arguments, attributes = rest[:end], rest[end + 1 :]
  return Instruction(
    name=name,
    opcode=opcode,
    arrays=tuple(_arrays(result)),
    operands=tuple(_NAME.findall(arguments)),
    arguments=arguments,
    attributes=attributes,
    is_root=root is not None,
  )


def _closing(text):
  """Where the parenthesis closes that was opened before the text."""
  depth = 1
  for index, character in enumerate(text):
    depth += (character == '(') - (character == ')')
    if not depth:
      return index
  return len(text)


def _arrays(text) -> Iterator[Array]:
  for dtype, dims, layout in _ARRAY.findall(text):
    space = _SPACE.search(layout)
    yield Array(
      dtype,
      tuple(int(d) for d in dims.split(',') if d),
      int(space[1]) if space else 0,
    )


def reached(module: Module, computation: str) -> Iterator[Instruction]:
  """Instructions of a computation and of all that it calls, fusions too."""
  todo, seen = [computation], set()
  while todo:
    name = todo.pop()
    if name in seen:
      continue
    seen.add(name)
    for instruction in module.computations[name].values():
      yield instruction
      for key in _KEYS:
        todo += instruction.called(key)
