"""Where the time of steps goes: seconds of each part, and a profile."""

import os
import pathlib
import time
from typing import Any

import jax
from rich import console as rich_console

from score_jax import arrays, distributed


class StepClock:
  """Times the parts of one step after the other, for the metrics perf/*."""

  def __init__(self):
    self._marks: dict[str, float] = {}

  def begin_step(self) -> None:
    """Starts the step's clock."""
    self._marks = {'begin': time.perf_counter()}

  def end_part(self, part: str) -> None:
    """Notes the time at which a part of the step has ended."""
    self._marks[part] = time.perf_counter()

  def speed(self, sequences: arrays.Trajectory) -> dict[str, float]:
    """Metrics of the step, whose last part has ended, on these sequences.

    Seconds of each part and of all, and attempt tokens a second.
    """
    names, times = list(self._marks), list(self._marks.values())
    parts = {
      f'perf/{name}_seconds': times[i + 1] - times[i]
      for i, name in enumerate(names[1:])
    }
    tokens = int((sequences.turn > 0).sum())
    seconds = times[-1] - times[0]
    return parts | {
      'perf/step_seconds': seconds,
      'perf/tokens_per_second': tokens / seconds,
    }


class StepTrace:
  """Traces steps from the second one on that this start makes of a stage.

  The first one compiles. Of several processes the first one traces itself.
  """

  def __init__(
    self,
    console: rich_console.Console,
    path: pathlib.Path,
    place: os.PathLike[str],
    steps: int,
  ):
    """Traces nothing yet.

    Args:
      console: where to say what was written.
      path: directory of the trace; one of an earlier start stays beside it.
      place: where people find it.
      steps: number of steps; 0: none.
    """
    self._console = console
    self._path = path
    self._place = place
    self._steps = steps if distributed.is_first() else 0
    self._made = 0
    self._is_open = False

  def begin_step(self) -> None:
    """Starts before the second step."""
    if self._steps and self._made == 1:
      self._is_open = True
      jax.profiler.start_trace(self._path, create_perfetto_trace=True)

  def end_step(self, state: Any) -> None:
    """Counts a step; writes the trace after the last one."""
    self._made += 1
    if self._is_open and self._made == 1 + self._steps:
      # Its update may still be running.
      jax.block_until_ready(state)
      self.close()

  def close(self) -> None:
    """Writes the trace, of fewer steps where the stage ends before."""
    if not self._is_open:
      return
    self._is_open = False
    jax.profiler.stop_trace()
    self._console.print(
      f'{self._path.parent.name}: steps traced: {self._made - 1}, in '
      f'{self._place}; drop its newest perfetto_trace.json.gz on '
      'https://ui.perfetto.dev, or: pip install xprof, then xprof '
      f'--logdir={self._place}',
      markup=False,
      highlight=False,
      soft_wrap=True,
    )
