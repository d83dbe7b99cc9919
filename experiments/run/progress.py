"""Progress of a stage: a live bar on a terminal, plain lines elsewhere."""

import collections
from collections.abc import Callable, Iterator, Mapping
import contextlib
import time

from rich import console as rich_console
from rich import progress as rich_progress
from rich import table as rich_table

# Metrics shown, if a step has them: label, name, format.
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


# Returns seconds, which only grow.
Clock = Callable[[], float]


class Pace:
  """Measures seconds a step; the first step, which compiles, does not count."""

  def __init__(self, clock: Clock = time.monotonic):
    self._clock = clock
    self._last = clock()
    self._is_first = True
    self._durations = collections.deque(maxlen=_WINDOW)

  def tick(self, steps: int = 1) -> None:
    """Notes that so many steps were made since the last tick."""
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
    """The time of so many steps as [hours:]minutes:seconds; `-` if unknown."""
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
    clock: Clock,
  ):
    self.live = rich_progress.Progress(
      rich_progress.TextColumn('{task.description}'),
      rich_progress.BarColumn(20),
      rich_progress.MofNCompleteColumn(),
      rich_progress.TextColumn(
        # Wraps on a narrow terminal.
        '{task.fields[numbers]}',
        table_column=rich_table.Column(),
      ),
      console=console,
      disable=not console.is_terminal,
    )
    self._task = self.live.add_task(
      name, total=steps, completed=done, numbers=''
    )
    self._name = name
    self._steps = steps
    self._done = done
    self._every = every
    self._pace = Pace(clock)

  def update(self, step: int, metrics: Mapping[str, float]) -> None:
    """Shows that `step` updates were made, and the latest metrics."""
    if step > self._done:
      self._pace.tick(step - self._done)
    self._done = step
    numbers = '  '.join(self._numbers(metrics))
    self.live.update(self._task, completed=step, numbers=numbers)
    is_due = step % self._every == 0 or step == self._steps
    if self.live.disable and is_due:
      count = f'{step:{len(str(self._steps))}d}/{self._steps}'
      self.live.console.print(
        f'{self._name}  {count}  {numbers}',
        markup=False,
        highlight=False,
        soft_wrap=True,
      )

  def _numbers(self, metrics: Mapping[str, float]) -> Iterator[str]:
    for label, name, form in SHOWN:
      if name in metrics:
        yield f'{label} {form.format(float(metrics[name]))}'
    pace = self._pace.seconds_per_step()
    yield f's/step {"-" if pace is None else f"{pace:.2f}"}'
    yield f'left {self._pace.time_left(self._steps - self._done)}'


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
  shown = StageProgress(
    console, name, steps, done=done, every=every, clock=clock
  )
  # Without a terminal, leaving it would print an empty line.
  with shown.live if console.is_terminal else contextlib.nullcontext():
    yield shown
