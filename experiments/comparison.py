"""Many runs one after the other, each policy made once, and their table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import csv
import dataclasses
import io
import pathlib
import statistics
import time
from typing import Any

from rich import box, text
from rich import console as rich_console
from rich import table as rich_table

from experiments import (
  files,
  interrupts,
  methods,
  outcome,
  progress,
  run_directory,
  sharing,
  train,
)
from experiments import settings as settings_lib

# What a policy costs beside an update of reinforcement learning, roughly: one
# pre-training step of the tiny preset; sampling and imitating a batch.
_PRETRAINING_STEP = 0.1
_SUPERVISED_STEP = 0.75
# Settings that a run may be continued with, and then has other results.
_CHANGE_RESULTS = {'eval_problems', 'steps_stage2'}
_SHOWN = {
  'acc_t1': 'Acc@t1',
  'acc_t2': 'Acc@t2',
  'acc_t3': 'Acc@t3',
  'delta': 'Δ(t1,t2)',
  'i_to_c': 'Δ i→c',
  'c_to_i': 'Δ c→i',
  'gain': 'vs SCoRe',
}


@dataclasses.dataclass(frozen=True)
class Cell:
  """One run.

  Attributes:
    settings: with method, seed and run directory.
    value: of what is varied, in a study.
  """

  settings: settings_lib.Settings
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
    return [methods.BASE, *methods.phases(self.settings)][-1]

  def result(self) -> dict[str, Any] | None:
    """Summary of the last policy, once the run is finished."""
    results = outcome.read_results(self.run)
    return results.get(self.last_policy)

  def is_finished(self) -> bool:
    """Whether its run has nothing left to do with these very settings."""
    if self.result() is None:
      return False
    there, here = (
      settings_lib.flatten(settings)
      for settings in (self.run.read_settings(), self.settings)
    )
    return all(
      there[name] == here[name]
      for name in here
      if name not in settings_lib.FREE - _CHANGE_RESULTS
    )


def run_cells(
  cells: Sequence[Cell],
  console: rich_console.Console,
  stop: interrupts.StopRequest,
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
    phases = methods.phases(settings)
    for name, recipe in sharing.recipes(settings).items():
      phase = phases.get(name)
      steps = phase.steps if phase else settings.pretrain.steps
      if recipe not in made and not run.stage(name).is_finished(steps):
        total += steps * _cost(phase)
      made.add(recipe)
  return total


def _cost(phase: methods.Phase | None) -> float:
  if phase is None:
    return _PRETRAINING_STEP
  if isinstance(phase, methods.Supervised):
    return _SUPERVISED_STEP
  return phase.stage.turns / 2 if isinstance(phase, methods.Reinforced) else 0.0


def summarise(cells: Sequence[Cell]) -> dict[str, Any]:
  """Rows by group: each seed's numbers, their mean and standard deviation.

  `gain` is the last turn's accuracy less SCoRe's from the same base policy, so
  that its spread over seeds is not that of the base policies.
  """
  rows: dict[str, Any] = {}
  for cell in cells:
    result = cell.result()
    if result is None:
      continue
    row = rows.setdefault(
      cell.group, {'method': cell.settings.method, 'value': cell.value}
    )
    numbers = {k: v for k, v in result.items() if isinstance(v, float)}
    score = _score_beside(cell, cells)
    if score:
      last = f'acc_t{cell.settings.turns}'
      numbers['gain'] = result[last] - score[last]
    row.setdefault('seeds', {})[str(cell.settings.seed)] = numbers
  for row in rows.values():
    names = dict.fromkeys(n for s in row['seeds'].values() for n in s)
    values = {
      name: [s[name] for s in row['seeds'].values() if name in s]
      for name in names
    }
    row['mean'] = {n: statistics.fmean(v) for n, v in values.items()}
    row['spread'] = {
      n: statistics.stdev(v) for n, v in values.items() if len(v) > 1
    }
  return rows


def _score_beside(cell: Cell, cells: Sequence[Cell]) -> dict[str, Any] | None:
  """SCoRe's result of the same seed and value, if it is there."""
  key = (cell.settings.seed, cell.value)
  for other in cells:
    is_beside = (other.settings.seed, other.value) == key
    if is_beside and other.settings.method == 'score':
      return other.result()
  return None


def write(
  path: pathlib.Path,
  rows: Mapping[str, Any],
  titles: Mapping[str, str],
  about: Mapping[str, Any],
) -> None:
  """Writes rows as JSON; beside it a markdown table, and a CSV of all seeds.

  Args:
    path: of the JSON file.
    rows: from `summarise`.
    titles: what groups are called.
    about: what else the JSON file says.
  """
  files.write_json(path, {**about, 'rows': rows})
  seeds = [(g, r['method'], s, n) for g, r in rows.items()
           for s, n in r['seeds'].items()]  # fmt: skip
  metrics = list(dict.fromkeys(name for *_, n in seeds for name in n))
  lines = io.StringIO()
  writer = csv.writer(lines, lineterminator='\n')
  writer.writerow(['group', 'method', 'seed', *metrics])
  for group, method, seed, numbers in seeds:
    writer.writerow(
      [group, method, seed, *(numbers.get(name, '') for name in metrics)]
    )
  files.write_text(path.with_suffix('.csv'), lines.getvalue())
  files.write_text(path.with_suffix('.md'), markdown_table(rows, titles))


def make_table(
  rows: Mapping[str, Any], titles: Mapping[str, str]
) -> rich_table.Table:
  """The paper's table of several methods: percent, spread over seeds beneath.

  Args:
    rows: from `summarise`.
    titles: what groups are called; others by their own name.
  """
  counts = {len(row['seeds']) for row in rows.values()}
  most = max(counts, default=0)
  caption = f'percent, mean of {most} seeds, ± their standard deviation'
  if most == 1:
    caption = 'percent, one seed'
  caption += '; vs SCoRe: last accuracy less that from the same base policy'
  table = rich_table.Table(box=box.HORIZONTALS, caption=caption)
  names = _columns(rows)
  table.add_column('Method')
  for name in names:
    table.add_column(_SHOWN[name], justify='right', no_wrap=True)
  kind = None
  for group, row in rows.items():
    before, kind = kind, methods.METHODS[row['method']].kind
    if before not in (None, kind):
      table.add_section()
    missing = most - len(row['seeds'])
    note = f' ({len(row["seeds"])} seeds)' if missing else ''
    cells = [
      text.Text.assemble((mean, 'bold'), '\n', (spread, 'dim'))
      if spread
      else mean
      for mean, spread in (_cell(row, name) for name in names)
    ]
    table.add_row(titles.get(group, group) + note, *cells)
  return table


def markdown_table(rows: Mapping[str, Any], titles: Mapping[str, str]) -> str:
  """The same table as markdown, one line a method, ending with a line break."""
  names = _columns(rows)
  lines = [
    ['Method', *(_SHOWN[name] for name in names), 'Seeds'],
    ['---', *['---:'] * (len(names) + 1)],
  ]
  for group, row in rows.items():
    cells = [' '.join(filter(None, _cell(row, name))) for name in names]
    lines.append([titles.get(group, group), *cells, str(len(row['seeds']))])
  return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def _columns(rows: Mapping[str, Any]) -> list[str]:
  return [n for n in _SHOWN if any(n in row['mean'] for row in rows.values())]


def _cell(row: Mapping[str, Any], name: str) -> tuple[str, str]:
  """A metric's mean and its spread as texts; the latter may be empty."""
  if name not in row['mean']:
    return '-', ''
  sign = '+' if name in ('delta', 'gain') else ''
  spread = ''
  if name in row['spread']:
    spread = f'±{100 * row["spread"][name]:.1f}'
  return f'{100 * row["mean"][name]:{sign}.1f}', spread
