"""How far a run is: live on a terminal, one plain line a step elsewhere."""

import collections
from collections.abc import Iterator, Mapping
import contextlib
import time
from typing import Any, Protocol

from rich import console as rich_console
from rich import live as rich_live
from rich import progress_bar
from rich import table as rich_table

# The numbers that matter: what it is called here, its metric, its format. Those
# that a step has are shown.
SHOWN = (
  ('acc t1', 'score/acc_t1', '{:.1%}'),
  ('acc t2', 'score/acc_t2', '{:.1%}'),
  ('acc t3', 'score/acc_t3', '{:.1%}'),
  ('delta', 'score/delta', '{:+.1%}'),
  ('kl t1', 'kl/turn1', '{:.3f}'),
  ('loss', 'loss', '{:.3f}'),
)
# Steps whose mean duration is shown and extrapolated.
_WINDOW = 20


class Clock(Protocol):
  """Seconds that only grow."""

  def __call__(self) -> float: ...


class Pace:
  """Seconds a step and time left, without the first step, which compiles."""

  def __init__(self, clock: Clock = time.monotonic):
    self._clock = clock
    self._last = clock()
    self._is_first = True
    self._durations = collections.deque(maxlen=_WINDOW)

  def tick(self, steps: int = 1) -> None:
    """Notes that some steps are done since the last tick."""
    now = self._clock()
    if not self._is_first:
      self._durations.append((now - self._last) / steps)
    self._last, self._is_first = now, False

  def seconds_per_step(self) -> float | None:
    """Mean of the last steps, or None before the second."""
    if not self._durations:
      return None
    return sum(self._durations) / len(self._durations)

  def time_left(self, steps_left: int) -> str:
    """As minutes and seconds, `-` where nothing is known yet."""
    pace = self.seconds_per_step()
    if pace is None:
      return '-'
    minutes, seconds = divmod(round(pace * steps_left), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
      return f'{hours}:{minutes:02d}:{seconds:02d}'
    return f'{minutes}:{seconds:02d}'


class StageProgress:
  """The display of one stage; call `update` after each step."""

  def __init__(
    self,
    console: rich_console.Console,
    name: str,
    steps: int,
    *,
    done: int,
    every: int,
    live: rich_live.Live | None,
    clock: Clock,
  ):
    self._console = console
    self._name = name
    self._steps = steps
    self._done = done
    self._every = every
    self._live = live
    self._pace = Pace(clock)

  def update(self, step: int, metrics: Mapping[str, float]) -> None:
    """Shows that `step` updates are done, and their newest metrics."""
    if step > self._done:
      self._pace.tick(step - self._done)
    self._done = step
    if self._live is not None:
      self._live.update(self._render(metrics))
    elif step % self._every == 0 or step == self._steps:
      self._console.print(
        self._line(metrics), markup=False, highlight=False, soft_wrap=True
      )

  def _columns(self, metrics: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for label, name, form in SHOWN:
      if name in metrics:
        yield label, form.format(float(metrics[name]))
    pace = self._pace.seconds_per_step()
    yield 's/step', '-' if pace is None else f'{pace:.2f}'
    yield 'left', self._pace.time_left(self._steps - self._done)

  def _line(self, metrics: Mapping[str, float]) -> str:
    width = len(str(self._steps))
    parts = [f'{label} {value}' for label, value in self._columns(metrics)]
    return '  '.join(
      [f'{self._name}  {self._done:{width}d}/{self._steps}', *parts]
    )

  def _render(self, metrics: Mapping[str, float]) -> rich_table.Table:
    table = rich_table.Table.grid(padding=(0, 2))
    columns = list(self._columns(metrics))
    table.add_row(
      self._name,
      'step',
      '',
      *(label for label, _ in columns),
      style='dim',
    )
    table.add_row(
      '',
      f'{self._done}/{self._steps}',
      progress_bar.ProgressBar(self._steps, self._done, width=20),
      *(value for _, value in columns),
    )
    return table


@contextlib.contextmanager
def stage(
  console: rich_console.Console,
  name: str,
  steps: int,
  *,
  done: int = 0,
  every: int = 1,
  clock: Clock = time.monotonic,
) -> Iterator[StageProgress]:
  """Shows the progress of a stage while its loop runs.

  What is printed to the same console meanwhile appears above the live display.

  Args:
    console: of the run.
    name: of the stage.
    steps: updates in all.
    done: updates that are done already.
    every: without a terminal, steps between two lines.
    clock: seconds.
  """
  options: dict[str, Any] = {
    'done': done, 'every': every, 'clock': clock
  }  # fmt: skip
  if not console.is_terminal:
    yield StageProgress(console, name, steps, live=None, **options)
    return
  with rich_live.Live(console=console, refresh_per_second=4) as live:
    yield StageProgress(console, name, steps, live=live, **options)
