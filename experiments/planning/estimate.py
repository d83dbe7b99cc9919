"""Compiles a workload's two programs and says what they need."""

from collections.abc import Mapping
import contextlib
import dataclasses
import time

import jax

from experiments.planning import (
  chips,
  disk,
  memory,
  programs,
  roofline,
  workload,
)


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a run needs on a slice.

  Attributes:
    chip: that all devices are.
    devices: number of chips.
    resident: bytes a device that the run keeps, by name.
    episode: the rollout's program.
    update: the update's; one serves all stages, whose coefficients are its
      arguments.
    disk: of checkpoints and the exported policy.
    attempt_tokens: tokens of every attempt in the ranges of time.
    rollout_seconds: of a step.
    update_seconds: of a step.
    steps: updates of the whole run.
    evaluation_seconds: of all evaluations of the run.
    checkpoint_rate: bytes a second that the disk must take so that no
      checkpoint delays training, at the bound of a step's time.
    compile_seconds: that compiling both programs took here.
  """

  chip: chips.Chip
  devices: int
  resident: Mapping[str, int]
  episode: memory.Program
  update: memory.Program
  disk: disk.Disk
  attempt_tokens: int
  rollout_seconds: roofline.Range
  update_seconds: roofline.Range
  steps: int
  evaluation_seconds: roofline.Range
  checkpoint_rate: float
  compile_seconds: float

  @property
  def kept(self) -> float:
    """Bytes a device that stay while either program runs."""
    names = ('trained weights', 'optimizer', 'reference')
    return sum(self.resident[name] for name in names)

  @property
  def episode_peak(self) -> float:
    """Bytes a device during the rollout; it does not read all that is kept."""
    return self.kept + self.episode.peak

  @property
  def update_peak(self) -> float:
    """Bytes a device during the update, whose arguments all that is kept is."""
    return max(self.kept, self.update.arguments) + self.update.temporaries

  @property
  def peak(self) -> float:
    """Most bytes a device."""
    return max(self.episode_peak, self.update_peak)

  @property
  def fits(self) -> bool:
    """Whether both programs compile, and what is kept beside them fits too."""
    are_compiled = self.episode.is_compiled and self.update.is_compiled
    return are_compiled and self.peak <= self.chip.memory

  @property
  def step_seconds(self) -> roofline.Range:
    """Of an episode and an update; grading, evaluation, checkpoints apart."""
    return self.rollout_seconds + self.update_seconds

  @property
  def hours(self) -> roofline.Range:
    """Of all steps of the run."""
    return self.step_seconds * (self.steps / 3600)

  @property
  def whole_hours(self) -> roofline.Range:
    """Of steps and evaluations; grading and compilation apart."""
    return self.hours + self.evaluation_seconds * (1 / 3600)


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
    attempt_tokens: tokens of every attempt in the ranges of time; None: as
      many as are allowed.
    level: jax's optimisation level, or `default`; O0 compiles several times as
      quickly.
  """
  most = max(work.sizes.max_new_tokens)
  tokens = min(attempt_tokens or most, most)
  resident = memory.resident(work)
  start = time.perf_counter()
  episode = _compile(_lower_episode, work, level)
  update = _compile(_lower_update, work, level)
  compile_seconds = time.perf_counter() - start
  rollout_seconds, evaluation_batch = (
    roofline.rollout_seconds(of, chip, resident['decode weights'], tokens)
    for of in (work, workload.of_evaluation(work))
  )
  update_seconds = roofline.update_seconds(work, chip, tokens)
  step_seconds = (rollout_seconds + update_seconds).lower
  return Plan(
    chip=chip,
    devices=work.mesh.size,
    resident=resident,
    episode=episode,
    update=update,
    disk=work.disk,
    attempt_tokens=tokens,
    rollout_seconds=rollout_seconds,
    update_seconds=update_seconds,
    steps=work.steps,
    evaluation_seconds=evaluation_batch * work.beside.evaluation_batches,
    checkpoint_rate=(
      work.disk.checkpoint / (work.beside.steps_between * step_seconds)
    ),
    compile_seconds=compile_seconds,
  )


def _lower_update(work):
  sizes = work.sizes
  return programs.lower_update(
    work.model,
    sizes.batch_size,
    sizes.length,
    turns=len(sizes.max_new_tokens),
    mesh=work.mesh,
    **work.update_options,
  )


def _lower_episode(work):
  return programs.lower_episode(
    work.model, work.sizes, work.rollout_mesh, **work.episode_options
  )


def _compile(lower, work, level) -> memory.Program:
  try:
    with _optimization_level(level):
      return memory.of_compiled(lower(work).compile())
  except jax.errors.JaxRuntimeError as error:
    needed = memory.of_rejection(str(error))
    if needed is None:
      raise
    return needed


@contextlib.contextmanager
def _optimization_level(level):
  before = jax.config.jax_optimization_level
  name = 'UNKNOWN' if level == 'default' else level
  jax.config.update('jax_optimization_level', name)
  try:
    yield
  finally:
    jax.config.update('jax_optimization_level', before)
