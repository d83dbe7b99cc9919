"""What a compiled program costs: FLOPs, bytes, traffic between chips, time.

The rule of the estimate, instruction by instruction, loops with all their
passes: an instruction takes the larger of its matrix products' FLOPs at 75 % of
the chip's peak and its main memory's bytes at full bandwidth. A transfer
between chips takes its bytes at the bandwidth of one axis of the interconnect,
both directions, and costs what `timeline` cannot hide. Vector arithmetic,
latencies and the padding of tiles count for nothing.
"""

from collections.abc import Callable
import dataclasses

from experiments.planning import (
  chips,
  flops,
  hlo,
  loops,
  memory_traffic,
  timeline,
  traffic,
)

PEAK_SHARE = 0.75

Passes = Callable[[hlo.Module, hlo.Instruction], float]

_FREE = frozenset(
  [
    'parameter',
    'constant',
    'tuple',
    'get-tuple-element',
    'bitcast',
    'iota',
    'after-all',
    'add-dependency',
    'optimization-barrier',
    'partition-id',
    'replica-id',
    'domain',
  ]
)


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of a program, or a part of it, on one device.

  Attributes:
    flops: of matrix products, a multiplication and an addition each.
    bytes: read from and written to main memory.
    collective_bytes: received from other chips.
    seconds: by the rule of this module.
    waiting: of these, spent on transfers and copies that nothing hides.
    unknown_loops: loops whose passes only the data decide.
  """

  flops: float = 0.0
  bytes: float = 0.0
  collective_bytes: float = 0.0
  seconds: float = 0.0
  waiting: float = 0.0
  unknown_loops: int = 0

  def __add__(self, other: 'Cost') -> 'Cost':
    pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other))
    return Cost(*(a + b for a, b in pairs))

  def __mul__(self, times: float) -> 'Cost':
    scaled = [times * x for x in dataclasses.astuple(self)[:-1]]
    return Cost(*scaled, unknown_loops=self.unknown_loops)


def measure(
  module: hlo.Module, chip: chips.Chip, passes: Passes = lambda *_: 1.0
) -> Cost:
  """Cost of a program on one device.

  Args:
    module: from `hlo.parse`.
    chip: that it runs on.
    passes: of (module, while) for loops whose number of passes is not in the
      program.
  """
  return Meter(module, chip, passes).computation(module.entry)


class Meter:
  """Costs of one module's computations."""

  def __init__(self, module: hlo.Module, chip: chips.Chip, passes: Passes):
    self._module = module
    self._chip = chip
    self._passes = passes
    self._known = {}

  def computation(self, name: str) -> Cost:
    """Of one run of a computation."""
    if name not in self._known:
      self._known[name] = self._run(name)
    return self._known[name]

  def _run(self, name):
    body = self._module.computations[name]
    chains = traffic.chains(self._module, body)
    spent, operations = Cost(), []
    for instruction in body.values():
      cost = self._instruction(body, instruction)
      name, after = instruction.name, instruction.operands
      chain = chains.get(name)
      if chain and chain.first == name:
        # A transfer in pieces, which run beside several fusions.
        moved = Cost(collective_bytes=chain.received)
        spent += moved
        operations.append(self._operation(chain.name, after, moved))
      if chain and chain.last == name:
        part = f'{name}/computation'
        operations.append(self._operation(part, after, cost, instruction))
        operations.append(timeline.Operation(name, (part, chain.name)))
      else:
        operations.append(self._operation(name, after, cost, instruction))
      spent += dataclasses.replace(cost, seconds=0.0)
    span = timeline.run(operations)
    return dataclasses.replace(
      spent, seconds=span.seconds, waiting=spent.waiting + span.waiting
    )

  def _operation(self, name, after, cost, instruction=None):
    if cost.seconds:  # a loop or a call, whose inside has been looked at
      return timeline.Operation(name, after, compute=cost.seconds)
    opcode = instruction.opcode if instruction else ''
    return timeline.Operation(
      name,
      after,
      compute=cost.flops / (PEAK_SHARE * self._chip.flops),
      memory=cost.bytes / self._chip.bandwidth,
      links=cost.collective_bytes / self._chip.interconnect,
      is_copy=opcode.endswith('-start'),
    )

  def _instruction(self, body, instruction):
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith(('-done', '-update')):
      return Cost()
    if opcode == 'while':
      return self._loop(body, instruction)
    if opcode in ('call', 'conditional'):
      return self._branches(instruction)
    if received := traffic.received(self._module, body, instruction):
      return Cost(collective_bytes=received)
    return Cost(
      flops=self._flops(body, instruction),
      bytes=memory_traffic.of_instruction(self._module, body, instruction),
    )

  def _loop(self, body, loop):
    count, unknown = loops.trip_count(self._module, body, loop), 0
    if count is None:
      count, unknown = self._passes(self._module, loop), 1
    names = loop.called('body') + loop.called('condition')
    once = sum((self.computation(n) for n in names), Cost())
    return once * count + Cost(unknown_loops=unknown)

  def _branches(self, instruction):
    keys = ('to_apply', 'calls', 'branch_computations')
    names = [n for key in keys for n in instruction.called(key)]
    return max((self.computation(n) for n in names), key=lambda c: c.seconds)

  def _flops(self, body, instruction):
    if instruction.opcode == 'custom-call':
      return flops.of_kernel(body, instruction)
    total = flops.of_product(body, instruction)
    for name in instruction.called('calls'):
      inner = self._module.computations[name]
      total += sum(self._flops(inner, i) for i in inner.values())
    return total
