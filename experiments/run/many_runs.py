"""Many runs one after the other, each policy made once."""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import logging
import pathlib
import sys
import time
from typing import Any

from rich import console as rich_console

from experiments import methods, sharing, train
from experiments.config import schema
from experiments.run import outcome, progress, run_directory
from score_jax.io import stop_signals
from score_jax.training import checkpoint_manifest

# What a policy costs beside an update of reinforcement learning, roughly: one
# pre-training step of the tiny preset; sampling and imitating a batch.
_PRETRAINING_STEP = 0.1
_SUPERVISED_STEP = 0.75
# Settings that a run may be continued with, and then has other results.
_CHANGE_RESULTS = {'eval_problems', 'steps_stage2'}


@dataclasses.dataclass(frozen=True)
class Cell:
  """One run.

  Attributes:
    settings: with method, seed and run directory.
    value: of what is varied, in a study.
  """

  settings: schema.Settings
  value: float | None = None

  @property
  def group(self) -> str:
    """Its row of the table, which has all seeds."""
    at = '' if self.value is None else f' at {self.value:g}'
    return self.settings.method + at

  @property
  def run(self) -> run_directory.RunDirectory:
    """Its directory."""
    return run_directory.RunDirectory(self.settings.directory)

  @property
  def last_policy(self) -> str:
    """The policy that the method ends with."""
    return [methods.BASE, *methods.stages(self.settings)][-1]

  def result(self) -> dict[str, Any] | None:
    """Summary of the last policy, once the run is finished."""
    results = outcome.read_results(self.run)
    return results.get(self.last_policy)

  def is_finished(self) -> bool:
    """Whether its run has nothing left to do with these very settings."""
    if self.result() is None:
      return False
    there, here = (
      schema.flatten(settings)
      for settings in (self.run.read_settings(), self.settings)
    )
    return all(
      there[name] == here[name]
      for name in here
      if name not in schema.FREE - _CHANGE_RESULTS
    )


def run_program(
  cells: Sequence[Cell],
  root: pathlib.Path,
  write_table: Callable[[], object],
  show: Callable[[rich_console.Console], None],
) -> int:
  """Makes every run and shows what came of it; the exit code.

  Args:
    cells: the runs, in their order.
    root: the directory of them all.
    write_table: called whenever a run has been finished, and at the end.
    show: prints the result.
  """
  logging.basicConfig(format='%(levelname)s: %(message)s')
  console = rich_console.Console()
  try:
    with stop_signals.StopRequest() as stop:
      failed = run_cells(cells, console, stop, write_table)
      if stop.is_requested:
        console.print(f'Stopped; the same command goes on with {root}.')
        return stop.exit_code
  except (run_directory.RunError, checkpoint_manifest.DamagedError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  write_table()
  show(console)
  return 1 if failed else 0


def run_cells(
  cells: Sequence[Cell],
  console: rich_console.Console,
  stop: stop_signals.StopRequest,
  on_result: Callable[[], None],
) -> list[str]:
  """Makes every run, those that are finished being left as they are.

  Args:
    cells: the runs, in their order.
    console: for the overall progress; each run's own lines go to it too on a
      terminal, and elsewhere to a file beside the run, METHOD.log.
    stop: asks to stop after a step; the same command then goes on.
    on_result: called whenever a run has been finished.

  Returns:
    One sentence for each run that could not be finished.
  """
  pace = Pace()
  failed = []
  for number, cell in enumerate(cells):
    if cell.is_finished():
      continue
    left = pace.time_left(_work(cells[number:], cells[:number]))
    console.print(
      f'run {number + 1} of {len(cells)}: {cell.group}, seed '
      f'{cell.settings.seed}; {left} left',
      highlight=False,
    )
    pace.begin(_work([cell], cells[:number]))
    try:
      _make_run(cell, cells, console, stop)
    except FloatingPointError as error:
      failed.append(f'{cell.settings.directory}: {error}')
      console.print(f'error: {failed[-1]}', markup=False, soft_wrap=True)
      continue
    if stop.is_requested:
      return failed
    pace.end()
    on_result()
  return failed


def _make_run(cell: Cell, cells: Sequence[Cell], console, stop) -> None:
  run = cell.run
  with run.lock():
    sharing.adopt(
      cell.settings,
      run,
      [c.run for c in cells if c is not cell and c.run.tokenizer.exists()],
    )
    if console.is_terminal:
      train.train(cell.settings, run, console, stop)
      return
    path = run.path.with_name(f'{run.path.name}.log')
    with path.open('a', encoding='utf-8') as file:
      log = rich_console.Console(file=file, width=100)
      train.train(cell.settings, run, log, stop)


class Pace:
  """Time left, from what the work so far has taken."""

  def __init__(self, clock: progress.Clock = time.monotonic):
    self._clock = clock
    self._done = self._seconds = self._begun = self._work = 0.0

  def begin(self, work: float) -> None:
    """A run of so much work starts."""
    self._work, self._begun = work, self._clock()

  def end(self) -> None:
    """It is finished."""
    self._done += self._work
    self._seconds += self._clock() - self._begun

  def time_left(self, work: float) -> str:
    """For so much work, in hours and minutes; '-' until a run has ended."""
    if not self._done:
      return '-'
    minutes = round(work * self._seconds / self._done / 60)
    return f'{minutes // 60}:{minutes % 60:02d} h'


def _work(cells: Iterable[Cell], before: Iterable[Cell]) -> float:
  """Updates, or what costs as much, that runs still have to make."""
  made = {r for cell in before for r in sharing.recipes(cell.settings).values()}
  total = 0.0
  for cell in cells:
    settings, run = cell.settings, cell.run
    phases = methods.stages(settings)
    for name, recipe in sharing.recipes(settings).items():
      phase = phases.get(name)
      steps = phase.steps if phase else settings.pretrain.steps
      if recipe not in made and not run.stage(name).is_finished(steps):
        total += steps * _cost(phase)
      made.add(recipe)
  return total


def _cost(phase: methods.Stage | None) -> float:
  if phase is None:
    return _PRETRAINING_STEP
  if isinstance(phase, methods.SFTStage):
    return _SUPERVISED_STEP
  return (
    phase.coefficients.turns / 2 if isinstance(phase, methods.RLStage) else 0.0
  )
