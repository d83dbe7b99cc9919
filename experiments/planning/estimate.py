"""Compiles a workload's two programs and says what they need and take."""

from collections.abc import Mapping
import contextlib
import dataclasses
import time

import jax

from experiments.planning import (
  chips,
  costs,
  hlo,
  memory,
  programs,
  useful,
  workload,
)


@dataclasses.dataclass(frozen=True)
class Program:
  """One compiled program.

  Attributes:
    memory: bytes a device.
    cost: of one run of it, a device; None where the compiler refused it.
    compile_seconds: here.
  """

  memory: memory.Program
  cost: costs.Cost | None
  compile_seconds: float


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a run needs on a slice, and how long it takes.

  Attributes:
    chip: that all devices are.
    devices: how many.
    resident: bytes a device that the run keeps, by name.
    episode: the rollout's program.
    update: the update's; one serves both stages, whose coefficients are its
      arguments.
    attempt_tokens: passes of the decode loop of each attempt.
    steps: updates of the whole run.
    useful_flops: of one update, all devices.
  """

  chip: chips.Chip
  devices: int
  resident: Mapping[str, int]
  episode: Program
  update: Program
  attempt_tokens: int
  steps: int
  useful_flops: float

  @property
  def kept(self) -> float:
    """Bytes a device that stay while either program runs."""
    names = ('trained weights', 'optimizer', 'reference')
    return sum(self.resident[name] for name in names)

  @property
  def episode_peak(self) -> float:
    """Bytes a device during the rollout; it does not read all that is kept."""
    return self.kept + self.episode.memory.peak

  @property
  def update_peak(self) -> float:
    """Bytes a device during the update, whose arguments all that is kept is."""
    return max(self.kept, self.update.memory.arguments) + (
      self.update.memory.temporaries
    )

  @property
  def peak(self) -> float:
    """Most bytes a device."""
    return max(self.episode_peak, self.update_peak)

  @property
  def fits(self) -> bool:
    """Whether both programs compile, and what is kept beside them fits too."""
    compiled = self.episode.cost is not None and self.update.cost is not None
    return compiled and self.peak <= self.chip.memory

  @property
  def step_seconds(self) -> float | None:
    """Of an episode and an update; grading, evaluation, checkpoints apart."""
    if self.episode.cost is None or self.update.cost is None:
      return None
    return self.episode.cost.seconds + self.update.cost.seconds

  @property
  def hours(self) -> float | None:
    """Of the whole run."""
    seconds = self.step_seconds
    return None if seconds is None else self.steps * seconds / 3600

  @property
  def mfu(self) -> float | None:
    """Useful FLOPs of the update, over what the chips could do in its time."""
    if self.update.cost is None:
      return None
    possible = self.devices * self.chip.flops * self.update.cost.seconds
    return self.useful_flops / possible


def make(
  work: workload.Workload,
  chip: chips.Chip,
  *,
  attempt_tokens: int | None = None,
  level: str = 'O0',
) -> Plan:
  """Compiles one program after the other, and counts.

  Args:
    work: from `workload.make`.
    chip: of its devices.
    attempt_tokens: passes of the decode loop; None: the longest attempt.
    level: jax's optimisation level, or `default`; O0 compiles several times as
      quickly.
  """
  sizes = work.sizes
  tokens = attempt_tokens or max(sizes.max_new_tokens)
  return Plan(
    chip=chip,
    devices=work.mesh.size,
    resident=memory.resident(work),
    episode=_compile(lower_episode, work, chip, tokens, level),
    update=_compile(lower_update, work, chip, tokens, level),
    attempt_tokens=tokens,
    steps=work.steps,
    useful_flops=useful.update_flops(
      work.model.config,
      sizes.rows,
      sizes.length,
      work.update_options['attempt_tokens'],
      adapters=work.model.adapters is not None,
    ),
  )


def lower_episode(work: workload.Workload):
  """The rollout's program."""
  places = programs.episode_places(work.model, work.rollout_mesh)
  return programs.lower_episode(work.model, work.sizes, places)


def lower_update(work: workload.Workload):
  """The update's program."""
  sizes = work.sizes
  return programs.lower_update(
    work.model,
    sizes.rows,
    sizes.length,
    turns=len(sizes.max_new_tokens),
    places=programs.update_places(work.model, work.mesh),
    micro_batches=sizes.rows // work.micro_batch,
    **work.update_options,
  )


def _compile(lower, work, chip, tokens, level):
  start = time.perf_counter()
  try:
    with _optimization_level(level):
      compiled = lower(work).compile()
  except jax.errors.JaxRuntimeError as error:
    needed = memory.of_refusal(str(error))
    if needed is None:
      raise
    return Program(needed, None, time.perf_counter() - start)
  seconds = time.perf_counter() - start
  cost = costs.measure(
    hlo.parse(compiled.as_text()), chip, passes(work, tokens)
  )
  return Program(memory.of_compiled(compiled), cost, seconds)


def passes(work: workload.Workload, tokens: float) -> costs.Passes:
  """Passes of the loops whose number only the data decide.

  One decodes until all rows have ended; the other is the engine's 'if', whose
  body, the instruction, is run after every attempt but the last.

  Args:
    work: that was compiled.
    tokens: passes of the first.
  """
  turns = len(work.sizes.max_new_tokens)
  config = work.model.config
  split = work.rollout_mesh.shape['tensor']
  vocabularies = {config.vocab_size, config.vocab_size // split}

  def of_loop(module, loop):
    [body] = loop.called('body')
    makes_logits = any(
      vocabularies & set(array.dims) and config.width not in array.dims
      for instruction in hlo.reached(module, body)
      for array in instruction.arrays
    )
    return float(tokens) if makes_logits else (turns - 1) / turns

  return of_loop


@contextlib.contextmanager
def _optimization_level(level):
  before = jax.config.jax_optimization_level
  name = 'UNKNOWN' if level == 'default' else level
  jax.config.update('jax_optimization_level', name)
  try:
    yield
  finally:
    jax.config.update('jax_optimization_level', before)
