"""Runs one after the other, whose base policies are copied where alike."""

from collections.abc import Callable, Sequence
import dataclasses
import logging
import pathlib
import shutil
import statistics
import sys
import time
from typing import Any

from rich import console as rich_console

from experiments import methods, train
from experiments.config import command_line, fields, schema
from experiments.run import building, run_directory
from score_jax.checkpoints import checkpoint_manifest
from score_jax.io import buckets, stop_signals


@dataclasses.dataclass(frozen=True)
class PlannedRun:
  """One run of a comparison.

  Attributes:
    settings: its settings, with method, seed and run directory.
    value: value of the setting that a study varies; None in a comparison.
  """

  settings: schema.Settings
  value: float | None = None

  @property
  def group(self) -> str:
    """Name of its row of the table, the same for all seeds."""
    at = '' if self.value is None else f' at {self.value:g}'
    return self.settings.method + at

  @property
  def directory(self) -> run_directory.RunDirectory:
    """Directory of the run."""
    return run_directory.RunDirectory(self.settings.directory)

  @property
  def last_policy(self) -> str:
    """Name of the policy that the method ends with."""
    return [methods.BASE, *methods.stages(self.settings)][-1]

  def result(self) -> dict[str, Any] | None:
    """Summary of the last policy, once the run is finished."""
    return self.directory.read_results().get(self.last_policy)

  def is_finished(self) -> bool:
    """Whether the run was finished with these settings.

    Settings that a run may be continued with are not compared, but for
    eval_problems, which changes its results.
    """
    return self.result() is not None and not self._differing(
      self.directory.read_settings(),
      lambda name: name == 'eval_problems' or name not in schema.free(),
    )

  def has_base_of(self, other: 'PlannedRun') -> bool:
    """Whether both runs have the same base policy and evaluate it alike."""
    return not self._differing(
      other.settings,
      lambda name: name == 'eval_problems' or schema.affects(name) == 'base',
    )

  def _differing(
    self, other: schema.Settings, matters: Callable[[str], bool]
  ) -> list[str]:
    one, two = fields.flatten(self.settings), fields.flatten(other)
    return [n for n in one if matters(n) and one[n] != two[n]]


def root(place: str) -> pathlib.Path:
  """The directory of all runs; exits with code 2 where that is a URL."""
  if buckets.is_url(place):
    command_line.reject(
      f'--run-dir={place}: several runs copy policies between them, in a '
      'directory of this machine; copy that to a bucket afterwards'
    )
  return pathlib.Path(place)


def run_program(
  planned: Sequence[PlannedRun],
  root: pathlib.Path,
  write_table: Callable[[], object],
  show: Callable[[rich_console.Console], None],
) -> int:
  """Makes every run and shows their results; returns the exit code.

  Args:
    planned: the runs, in order.
    root: the directory of them all.
    write_table: called whenever a run has been finished, and at the end.
    show: prints the result.
  """
  logging.basicConfig(format='%(levelname)s: %(message)s')
  console = rich_console.Console()
  try:
    with stop_signals.StopRequest() as stop:
      failed = make_runs(planned, console, stop, write_table)
      if stop.is_requested:
        console.print(f'Stopped; the same command goes on with {root}.')
        return stop.exit_code
  except (run_directory.RunError, checkpoint_manifest.DamagedError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  write_table()
  show(console)
  return 1 if failed else 0


def make_runs(
  planned: Sequence[PlannedRun],
  console: rich_console.Console,
  stop: stop_signals.StopRequest,
  on_result: Callable[[], None],
) -> list[str]:
  """Makes every run that is not finished.

  Args:
    planned: the runs, in order.
    console: for the overall progress; each run's own lines go to it too on a
      terminal, and elsewhere to a file beside the run, METHOD.log.
    stop: asks to stop after a step; the same command then goes on.
    on_result: called whenever a run has been finished.

  Returns:
    One sentence for each run that could not be finished.
  """
  durations: list[float] = []
  failed = []
  for number, each in enumerate(planned):
    if each.is_finished():
      continue
    remaining = sum(not other.is_finished() for other in planned[number:])
    console.print(
      f'run {number + 1} of {len(planned)}: {each.group}, seed '
      f'{each.settings.seed}; {_time_left(durations, remaining)} left',
      highlight=False,
    )
    begin = time.monotonic()
    try:
      _make_run(each, planned[:number], console, stop)
    # One method that diverges must not end the comparison of the others.
    except FloatingPointError as error:
      failed.append(f'{each.directory}: {error}')
      console.print(f'error: {failed[-1]}', markup=False, soft_wrap=True)
      continue
    if stop.is_requested:
      break
    durations.append(time.monotonic() - begin)
    on_result()
  return failed


def _make_run(
  planned: PlannedRun, earlier: Sequence[PlannedRun], console, stop
) -> None:
  directory = planned.directory
  with directory.lock():
    for other in earlier:
      if planned.has_base_of(other):
        _copy_base(other.directory, planned)
    if console.is_terminal:
      train.train(building.start(planned.settings, directory, console, stop))
      return
    path = directory.path.with_name(f'{directory.path.name}.log')
    with path.open('a', encoding='utf-8') as file:
      log = rich_console.Console(file=file, width=100)
      train.train(building.start(planned.settings, directory, log, stop))


def _copy_base(source: run_directory.RunDirectory, planned: PlannedRun) -> None:
  """Copies an evaluated base policy into a run that has none yet."""
  target, results = planned.directory, source.read_results()
  base = target.stage(methods.BASE).path
  if base.exists() or methods.BASE not in results:
    return
  target.begin(planned.settings, source.read_data())
  for path in (*source.pretrained.glob('*'), source.tokenizer):
    copied = target.path / path.relative_to(source.path)
    copied.parent.mkdir(exist_ok=True)
    target.written.vouch(copied, path)
    shutil.copy2(path, copied)
  target.write_results({methods.BASE: results[methods.BASE]})
  # Last, and renamed as a whole: a killed program leaves no partial policy.
  temporary = base.with_name(f'.{base.name}.tmp')
  shutil.rmtree(temporary, ignore_errors=True)
  shutil.copytree(source.stage(methods.BASE).path, temporary)
  temporary.replace(base)


def _time_left(durations: Sequence[float], runs: int) -> str:
  """Hours and minutes of so many runs; '-' until one has been finished."""
  if not durations:
    return '-'
  minutes = round(runs * statistics.fmean(durations) / 60)
  return f'{minutes // 60}:{minutes % 60:02d} h'
