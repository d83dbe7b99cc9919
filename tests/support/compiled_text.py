"""Reads compiled programs (`compiled.as_text()`): loops, copies, stored arrays.

The grammar is XLA's HLO text, as CPU and TPU compilers print it.
"""

from collections.abc import Iterator
import dataclasses
import math
import re


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a compiled program.

  Attributes:
    opcode: such as 'copy' or 'fusion'.
    name: given by the compiler; of a fusion it tells what is done.
    dims: of the result; the largest, if it is a tuple.
    computation: name of the computation that the line belongs to.
    line: the line itself.
  """

  opcode: str
  name: str
  dims: tuple[int, ...]
  computation: str
  line: str

  @property
  def elements(self) -> int:
    """Number of elements of the (largest) result."""
    return math.prod(self.dims)


_HEAD = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) .*\{$')
_LINE = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\(')
_ARRAY = re.compile(r'\w+\[([\d,]*)\]')


def instructions(text: str) -> Iterator[Instruction]:
  """Yields the instructions of a program's text."""
  computation = ''
  for line in text.splitlines():
    if head := _HEAD.match(line):
      computation = head[1]
    elif found := _LINE.match(line):
      name, result, opcode = found.groups()
      shapes = [
        tuple(int(d) for d in dims.split(',') if d)
        for dims in _ARRAY.findall(result)
      ]
      if shapes:
        dims = max(shapes, key=math.prod)
        yield Instruction(opcode, name, dims, computation, line.strip())


def loop_bodies(text: str) -> set[str]:
  """Names of the computations that every pass of some loop runs."""
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
  """Instructions inside loops that copy at least so many elements."""
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
