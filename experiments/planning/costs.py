"""What a compiled program costs: FLOPs, bytes, traffic between chips, time.

The rule of the estimate, instruction by instruction, loops with all their
passes: an instruction takes the larger of its matrix products' FLOPs at 75 % of
the chip's peak and its main memory's bytes at full bandwidth. Bytes queue: what
an asynchronous copy moves delays the next instruction that moves bytes.
Transfers between chips take their bytes at the bandwidth of one axis of the
interconnect, both directions; asynchronous ones run beside the computation
between their start and their end, and cost what is left at the end. Vector
arithmetic, latencies and the padding of tiles count for nothing.
"""

from collections.abc import Callable
import dataclasses
import math
import re

from experiments.planning import chips, hlo

PEAK_SHARE = 0.75

Passes = Callable[[hlo.Module, hlo.Instruction], float]

_FREE = frozenset(
  'parameter constant tuple get-tuple-element bitcast after-all partition-id '
  'replica-id optimization-barrier iota add-dependency domain '
  'opt-barrier'.split()
)
_REFERRING = ('bitcast', 'reshape', 'copy', 'convert', 'transpose')
# Bytes that a device receives, as a share of the larger of operand and result
# in a group of g devices.
_TRAFFIC = {
  'all-gather': lambda g: (g - 1) / g,
  'reduce-scatter': lambda g: (g - 1) / g,
  'all-to-all': lambda g: (g - 1) / g,
  'ragged-all-to-all': lambda g: (g - 1) / g,
  'all-reduce': lambda g: 2 * (g - 1) / g,
  'collective-permute': lambda g: 1.0,
  'collective-broadcast': lambda g: 1.0,
}


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of a program, or a part of it, on one device.

  Attributes:
    flops: of matrix products, a multiplication and an addition each.
    bytes: read from and written to main memory.
    collective_bytes: received from other chips.
    seconds: by the rule of this module.
    waiting: of these, spent on transfers that nothing hides.
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
    scaled = [times * x for x in dataclasses.astuple(self)]
    return Cost(*scaled[:-1], unknown_loops=self.unknown_loops)


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
  return _Meter(module, chip, passes).computation(module.entry)


class _Meter:
  """Costs of one module's computations."""

  def __init__(self, module, chip, passes):
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
    clock = _Clock(self._chip)
    body = self._module.computations[name]
    for instruction in body.values():
      opcode = instruction.opcode
      if opcode in _FREE:
        continue
      if opcode == 'while':
        clock.add(self._loop(body, instruction))
      elif opcode in ('call', 'conditional'):
        clock.add(self._branches(instruction))
      elif opcode.endswith(('-done', '-update')):
        clock.finish(self._start_of(body, instruction))
      else:
        self._operation(clock, body, instruction)
    return clock.total()

  def _loop(self, body, loop):
    count, unknown = hlo.trip_count(self._module, body, loop), 0
    if count is None:
      count, unknown = self._passes(self._module, loop), 1
    names = loop.called('body') + loop.called('condition')
    once = sum((self.computation(n) for n in names), Cost())
    return once * count + Cost(unknown_loops=unknown)

  def _branches(self, instruction):
    keys = ('to_apply', 'calls', 'branch_computations')
    names = [n for key in keys for n in instruction.called(key)]
    return max((self.computation(n) for n in names), key=lambda c: c.seconds)

  def _start_of(self, body, done):
    """Name of the instruction that began what this one waits for."""
    start = body[done.operands[0]]
    while start.opcode.endswith('-update'):
      start = body[start.operands[0]]
    return start.name

  def _operation(self, clock, body, instruction):
    kind = self._transfer(instruction)
    if kind:
      received = self._traffic(body, instruction, kind)
      clock.transfer(
        instruction.name, received, instruction.opcode.endswith('-start')
      )
      return
    flops = self._flops(body, instruction)
    moved = self._bytes(body, instruction)
    if instruction.opcode.endswith('-start'):
      clock.copy(instruction.name, moved)
    else:
      clock.compute(flops, moved)

  def _transfer(self, instruction):
    """The kind of transfer between chips that this is, or None."""
    opcode = instruction.opcode.removesuffix('-start')
    if opcode in _TRAFFIC:
      return opcode
    for name in instruction.called('calls') if opcode == 'async' else ():
      for inner in self._module.computations[name].values():
        if inner.opcode in _TRAFFIC:
          return inner.opcode
    return None

  def _traffic(self, body, instruction, kind):
    operands = sum(_size(body[n]) for n in instruction.operands)
    result = _size(instruction)
    if instruction.opcode.endswith('-start'):
      # The result of a start holds the operands too.
      result -= operands
    group = _group_size(instruction.attributes, self._module)
    return max(operands, result) * _TRAFFIC[kind](group)

  def _flops(self, body, instruction):
    if instruction.opcode == 'dot':
      return _dot_flops(body, instruction)
    if instruction.opcode == 'convolution':
      return _convolution_flops(body, instruction)
    if instruction.opcode == 'custom-call':
      stated = re.search(r'"flops":"?(\d+)', instruction.attributes)
      return float(stated[1]) if stated else 0.0
    total = 0.0
    for name in instruction.called('calls'):
      inner = self._module.computations[name]
      total += sum(self._flops(inner, i) for i in inner.values())
    return total

  def _bytes(self, body, instruction):
    """Main memory's traffic of an instruction that is not inside a fusion."""
    opcode = instruction.opcode
    operands = [body[n] for n in instruction.operands]
    if opcode == 'custom-call' and not operands:
      return 0.0
    if opcode in ('dynamic-slice', 'slice', 'gather'):
      return 2.0 * instruction.bytes
    if opcode in ('dynamic-update-slice', 'scatter'):
      return 2.0 * operands[-1 if opcode == 'scatter' else 1].bytes
    if opcode in ('copy-start', 'slice-start', 'async-start'):
      return float(_moved_by_copy(operands, instruction))
    if opcode != 'fusion':
      return float(sum(o.bytes for o in operands) + instruction.bytes)
    [name] = instruction.called('calls')
    read = sum(
      min(operand.bytes, self._read(name, parameter))
      for operand, parameter in zip(operands, self._module.parameters(name))
    )
    return read + self._written(name, instruction)

  def _read(self, name, parameter):
    """Bytes that a fusion reads of one parameter."""
    computation = self._module.computations[name]
    users = [i for i in computation.values() if parameter.name in i.operands]
    total = 0.0
    for user in users:
      if user.opcode in ('dynamic-slice', 'slice', 'gather'):
        total += _size(user)
      elif user.opcode in ('bitcast', 'get-tuple-element'):
        total += self._read(name, user)
      elif user.opcode == 'fusion':
        [inner] = user.called('calls')
        places = [
          p
          for p, operand in zip(self._module.parameters(inner), user.operands)
          if operand == parameter.name
        ]
        total += sum(self._read(inner, p) for p in places)
      elif not (
        user.opcode in ('dynamic-update-slice', 'scatter')
        and user.operands[0] == parameter.name
      ):
        return math.inf
    return total

  def _written(self, name, instruction):
    """Bytes that a fusion writes: of an update in place, what is new."""
    root = self._module.root(name)
    computation = self._module.computations[name]
    parts = (
      [computation[n] for n in root.operands]
      if root.opcode == 'tuple'
      else [root]
    )
    if len(parts) != len(instruction.arrays):
      return float(instruction.bytes)
    return sum(
      0.0 if array.space else self._new_bytes(computation, part, array)
      for part, array in zip(parts, instruction.arrays)
    )

  def _new_bytes(self, computation, part, array):
    while part.opcode in _REFERRING:
      part = computation[part.operands[0]]
    if part.opcode == 'dynamic-update-slice':
      return _size(computation[part.operands[1]])
    if part.opcode == 'scatter':
      return _size(computation[part.operands[-1]])
    if part.opcode == 'fusion':
      [inner] = part.called('calls')
      return self._new_bytes(
        self._module.computations[inner], self._module.root(inner), array
      )
    return array.bytes


class _Clock:
  """Three queues: computation, main memory, the links to other chips."""

  def __init__(self, chip):
    self._flops_per_second = PEAK_SHARE * chip.flops
    self._bandwidth = chip.bandwidth
    self._links = chip.interconnect
    self._now = self._memory_free = self._links_free = 0.0
    self._ends = {}
    self._spent = Cost()

  def add(self, cost: Cost) -> None:
    """A loop or a call: what runs beside it is not looked at."""
    self._spent += dataclasses.replace(cost, seconds=0.0)
    self._now += cost.seconds

  def compute(self, flops: float, moved: float) -> None:
    """An instruction that computes."""
    self._spent += Cost(flops=flops, bytes=moved)
    end = self._now + flops / self._flops_per_second
    self._now = max(end, self._move(moved))

  def copy(self, name: str, moved: float) -> None:
    """The start of a copy between memories."""
    self._spent += Cost(bytes=moved)
    self._ends[name] = (self._move(moved), False)

  def transfer(self, name: str, received: float, asynchronous: bool) -> None:
    """A transfer between chips, or its start."""
    begin = max(self._now, self._links_free)
    self._links_free = begin + received / self._links
    self._spent += Cost(collective_bytes=received)
    self._ends[name] = (self._links_free, True)
    if not asynchronous:
      self.finish(name)

  def finish(self, name: str) -> None:
    """Waits for what was started under this name."""
    end, is_transfer = self._ends.get(name, (0.0, False))
    wait = max(0.0, end - self._now)
    self._now += wait
    if is_transfer:
      self._spent += Cost(waiting=wait)

  def total(self) -> Cost:
    """What it came to."""
    return dataclasses.replace(self._spent, seconds=self._now)

  def _move(self, moved):
    """When main memory has moved so many bytes more."""
    if not moved:
      return self._now
    begin = max(self._now, self._memory_free)
    self._memory_free = begin + moved / self._bandwidth
    return self._memory_free


def _size(instruction):
  """Bytes of a result in whatever memory."""
  return sum(a.bytes for a in instruction.arrays)


def _moved_by_copy(operands, instruction):
  """Bytes of main memory that a copy between memories reads and writes.

  A start's result is (what is written, what is read, ...).
  """
  if instruction.opcode == 'async-start':
    return max((a.bytes for a in instruction.arrays if not a.space), default=0)
  written, read = instruction.arrays[:2]
  sizes = min(written.bytes, read.bytes)
  return sizes * ((not written.space) + (not read.space))


def _group_size(attributes, module):
  """Devices that take part in one collective."""
  mesh = re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", attributes)
  if mesh:
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh[1]))
    return math.prod(int(sizes[n]) for n in re.findall(r"'([^']+)'", mesh[2]))
  iota = re.search(r'replica_groups=\[(\d+),(\d+)\]', attributes)
  if iota:
    return int(iota[2])
  listed = re.search(r'replica_groups=\{\{([\d,]*)\}', attributes)
  return len(listed[1].split(',')) if listed else 1


def _dot_flops(body, dot):
  left = body[dot.operands[0]].arrays[0].dims
  found = re.search(r'lhs_contracting_dims=\{([\d,]*)\}', dot.attributes)
  contracted = [int(d) for d in found[1].split(',') if d] if found else []
  return 2.0 * dot.arrays[0].elements * math.prod(left[d] for d in contracted)


def _convolution_flops(body, conv):
  """Multiplications and additions of what lies inside the padded input.

  TPU programs write matrix products as convolutions: batch dimensions become
  windows that are dilated so that only the diagonal counts.
  """
  labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', conv.attributes)
  left, right, out = labels.groups()
  left_dims, right_dims = (body[n].arrays[0].dims for n in conv.operands[:2])
  window = _window(conv.attributes)
  pairs = 1
  for axis in range(sum(c.isdigit() for c in out)):
    label = str(axis)
    sizes = (
      left_dims[left.index(label)],
      right_dims[right.index(label)],
      conv.arrays[0].dims[out.index(label)],
    )
    pairs *= _valid_pairs(*sizes, **{k: v[axis] for k, v in window.items()})
  groups = re.search(r'batch_group_count=(\d+)', conv.attributes)
  batch = left_dims[left.index('b')] // (int(groups[1]) if groups else 1)
  features = right_dims[right.index('o')] * right_dims[right.index('i')]
  return 2.0 * batch * features * pairs


def _window(attributes):
  """Fields of window={...}, a list with an entry for each spatial axis."""
  text = re.search(r'window=\{([^}]*)\}', attributes)
  fields = dict(part.split('=') for part in text[1].split()) if text else {}
  axes = len(fields['size'].split('x')) if 'size' in fields else 0

  def numbers(key, default):
    values = fields.get(key, 'x'.join([default] * axes))
    return [int(v) for v in values.split('x')] if axes else []

  pads = fields.get('pad', 'x'.join(['0_0'] * axes))
  low = [int(p.split('_')[0]) for p in pads.split('x')] if axes else []
  return {
    'stride': numbers('stride', '1'),
    'pad': low,
    'dilate': numbers('rhs_dilate', '1'),
    'spread': numbers('lhs_dilate', '1'),
  }


def _valid_pairs(size, kernel, out, *, stride, pad, dilate, spread):
  """Pairs of output and kernel positions that meet an input element."""
  reach = (size - 1) * spread
  count = 0
  for k in range(kernel):
    offset = k * dilate - pad
    # Positions o with 0 <= o * stride + offset <= reach, on the spread grid.
    first = max(0, -(-(-offset) // stride))
    last = min(out - 1, (reach - offset) // stride)
    if spread == 1:
      count += max(0, last - first + 1)
    else:
      count += sum(
        (o * stride + offset) % spread == 0 for o in range(first, last + 1)
      )
  return count
