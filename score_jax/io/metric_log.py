"""Metrics of each step: JSON lines always, TensorBoard files where possible.

Of several processes the first one writes them.
"""

from collections.abc import Iterator, Mapping
import contextlib
import logging
import math
import pathlib
import time

from tensorboardX import event_file_writer
from tensorboardX import summary as summaries
from tensorboardX.proto import event_pb2

from score_jax import distributed
from score_jax.io import written_files

_LOGGER = logging.getLogger(__name__)
# It says that a value is not finite, without the value's name.
logging.getLogger('tensorboardX.x2num').setLevel(logging.ERROR)


class MetricsLog:
  """Writes one record a step to a JSON lines file, and to TensorBoard.

  `step` counts updates: the record of the first update has step 1, as has the
  checkpoint after it; 0 is before training.
  """

  def __init__(
    self,
    stage: str,
    path: pathlib.Path,
    events: pathlib.Path,
    step: int = 0,
  ):
    """Opens the files of a stage that is continued after `step`.

    Records of later steps are dropped from both.

    Args:
      stage: name that each record has.
      path: the JSON lines file.
      events: directory of TensorBoard's event files.
      step: the newest step to keep.
    """
    self._stage = stage
    self._lines = written_files.Log(path, step)
    self._events = EventLog(events, step)

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Writes numbers by name; what is not finite is null in the JSON lines."""
    values = {name: float(value) for name, value in metrics.items()}
    self._lines.write(
      {
        'stage': self._stage,
        'step': int(step),
        **_as_json(values),
      }
    )
    self._events.write(int(step), values)

  def note(self) -> None:
    """Notes digests of the JSON lines so far; see `written_files`."""
    self._lines.note()

  def close(self) -> None:
    """Closes the files. May be called twice."""
    self._lines.close()
    self._events.close()


def _as_json(values: Mapping[str, float]) -> dict[str, float | None]:
  return {n: v if math.isfinite(v) else None for n, v in values.items()}


class EventLog:
  """TensorBoard scalars; where writing fails, says so once and gives up.

  Not tensorboardX's SummaryWriter: its background thread dies on a full disk,
  and the run then waits forever for room in the thread's queue. EventsWriter
  writes in the caller's thread.
  """

  def __init__(self, directory: pathlib.Path, step: int = 0):
    """Opens a new event file that replaces what came after `step`."""
    self._writer = None
    if not distributed.is_first():
      return
    with self._giving_up():
      directory.mkdir(parents=True, exist_ok=True)
      self._writer = event_file_writer.EventsWriter(str(directory / 'events'))
      # TensorBoard drops what older files have from the step of this mark on.
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._add(step + 1, session_log=start)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Writes scalars by tag."""
    if self._writer is None:
      return
    with self._giving_up():
      for tag, value in values.items():
        self._add(step, summary=summaries.scalar(tag, value))
      self._writer.flush()

  def close(self) -> None:
    """Closes the file. May be called twice."""
    if self._writer is None:
      return
    with self._giving_up():
      self._writer.close()
    self._writer = None

  def _add(self, step: int, **content) -> None:
    event = event_pb2.Event(wall_time=time.time(), step=step, **content)
    self._writer.write_event(event)

  @contextlib.contextmanager
  def _giving_up(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:
      self._writer = None
      _LOGGER.warning(
        'no more TensorBoard files (%s: %s); metrics.jsonl has everything',
        type(error).__name__,
        error,
      )
