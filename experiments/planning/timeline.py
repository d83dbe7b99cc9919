"""How long a computation takes: what can run side by side, does.

Three things work at one time: the arithmetic units, main memory, the links to
other chips. An operation starts when what it reads is there. The arithmetic
units take, of what could start, what stands first in the program; transfers and
copies start at once, one after the other. So a transfer costs what no
independent work of the same computation can hide.
"""

from collections.abc import Sequence
import dataclasses
import heapq


@dataclasses.dataclass(frozen=True)
class Operation:
  """One node of a computation's graph; seconds on each resource.

  Attributes:
    name: what others wait for.
    after: names of earlier operations that it waits for.
    compute: of the arithmetic units.
    memory: of main memory, at the same time.
    links: of the links to other chips; alone.
    is_copy: whether only memory is busy, and the arithmetic units go on.
  """

  name: str
  after: tuple[str, ...] = ()
  compute: float = 0.0
  memory: float = 0.0
  links: float = 0.0
  is_copy: bool = False

  @property
  def is_aside(self) -> bool:
    """Whether the arithmetic units go on with something else."""
    return self.is_copy or self.links > 0 or self.is_free

  @property
  def is_free(self) -> bool:
    """Whether it takes no time."""
    return not (self.compute or self.memory or self.links)


@dataclasses.dataclass(frozen=True)
class Span:
  """What a computation took.

  Attributes:
    seconds: from its start to the end of its last operation.
    waiting: of these, the arithmetic units had nothing that could start.
  """

  seconds: float
  waiting: float


def run(operations: Sequence[Operation]) -> Span:
  """Runs operations, each after those that it names."""
  simulation = _Simulation(operations)
  return simulation.run()


class _Simulation:
  """Times of the resources, and what can start when."""

  def __init__(self, operations):
    self._operations = operations
    self._place = {o.name: i for i, o in enumerate(operations)}
    self._missing = []
    self._users = [[] for _ in operations]
    for index, operation in enumerate(operations):
      before = {self._place[n] for n in operation.after if n in self._place}
      self._missing.append(len(before))
      for other in before:
        self._users[other].append(index)
    self._ready_at = [0.0] * len(operations)
    self._now = self._memory = self._links = self._last = self._busy = 0.0
    # By the time that what they read is there; by their place in the program.
    self._coming, self._startable = [], []

  def run(self):
    for index in [i for i, n in enumerate(self._missing) if not n]:
      self._arrive(index)
    while self._coming or self._startable:
      while self._coming and self._coming[0][0] <= self._now:
        heapq.heappush(self._startable, heapq.heappop(self._coming)[1])
      if not self._startable:
        self._now = self._coming[0][0]
        continue
      self._compute(heapq.heappop(self._startable))
    return Span(self._last, self._last - self._busy)

  def _arrive(self, index):
    """Everything that the operation reads will be there at a known time."""
    operation, ready = self._operations[index], self._ready_at[index]
    if not operation.is_aside:
      heapq.heappush(self._coming, (ready, index))
      return
    if operation.links:
      ready = self._links = max(self._links, ready) + operation.links
    if operation.memory:
      ready = self._memory = max(self._memory, ready) + operation.memory
    self._finish(index, ready)

  def _compute(self, index):
    operation, start = self._operations[index], self._now
    self._now += operation.compute
    if operation.memory:
      self._memory = max(self._memory, start) + operation.memory
      self._now = max(self._now, self._memory)
    self._busy += self._now - start
    self._finish(index, self._now)

  def _finish(self, index, end):
    self._last = max(self._last, end)
    for user in self._users[index]:
      self._missing[user] -= 1
      self._ready_at[user] = max(self._ready_at[user], end)
      if not self._missing[user]:
        self._arrive(user)
