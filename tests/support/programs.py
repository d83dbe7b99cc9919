"""What is in compiled programs: loops, copies, stored arrays."""

from collections.abc import Iterator
import dataclasses
import math
import re


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a compiled program.

  Attributes:
    opcode: such as 'copy' or 'fusion'.
    name: given by the compiler, tells what a fusion does.
    dims: of the result; the largest, if it is a tuple.
    dtype: of it.
    computation: in which the line stands.
    line: the line itself.
  """

  opcode: str
  name: str
  dims: tuple[int, ...]
  dtype: str
  computation: str
  line: str

  @property
  def elements(self) -> int:
    """Of the (largest) result."""
    return math.prod(self.dims)


_HEAD = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) .*\{$')
_LINE = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\(')
_ARRAY = re.compile(r'(\w+)\[([\d,]*)\]')


def instructions(text: str) -> Iterator[Instruction]:
  """Instructions of `compiled.as_text()`."""
  computation = ''
  for line in text.splitlines():
    if head := _HEAD.match(line):
      computation = head[1]
    elif found := _LINE.match(line):
      name, result, opcode = found.groups()
      sizes = [
        (tuple(int(d) for d in dims.split(',') if d), dtype)
        for dtype, dims in _ARRAY.findall(result)
      ]
      if sizes:
        dims, dtype = max(sizes, key=lambda size: math.prod(size[0]))
        yield Instruction(opcode, name, dims, dtype, computation, line.strip())


def loop_bodies(text: str) -> set[str]:
  """Names of the computations that run once a pass of some loop."""
  called = {}
  bodies = set()
  for i in instructions(text):
    names = set(re.findall(r'(?:to_apply|body|calls)=%?([\w.\-]+)', i.line))
    if i.opcode == 'while':
      bodies |= names
    if i.opcode != 'fusion':  # what is inside a fusion is never stored
      called.setdefault(i.computation, set()).update(names)
  reached = set()
  todo = list(bodies)
  while todo:
    name = todo.pop()
    if name not in reached:
      reached.add(name)
      todo += called.get(name, ())
  return reached


def copies_in_loops(text: str, elements: int) -> list[Instruction]:
  """What copies arrays of at least so many elements inside loops."""
  bodies = loop_bodies(text)
  moving = ('copy', 'transpose', 'concatenate', 'pad', 'copy-start', 'reverse')
  return [
    i
    for i in instructions(text)
    if i.computation in bodies
    and i.elements >= elements
    and (
      i.opcode in moving
      or (i.opcode == 'fusion' and re.search('copy|transpose|pad', i.name))
    )
  ]


def stored_arrays(text: str) -> Iterator[Instruction]:
  """Instructions whose results are buffers: none from inside fusions."""
  fused = set(re.findall(r'kind=k\w+, calls=%?([\w.\-]+)', text))
  return (i for i in instructions(text) if i.computation not in fused)
