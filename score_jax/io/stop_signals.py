"""Ctrl-C and SIGTERM: once to stop soon and save, twice to stop at once."""

from collections.abc import Callable, Iterator
import contextlib
import os
import signal
import time
from typing import Any

import jax

from score_jax import distributed, types

_LONGEST_WAIT_SECONDS = 0.02


class StopRequest:
  """Turns the first signal into a request that a training loop reads.

  with stop_signals.StopRequest() as stop:
    try:
      for step in ...:
        sample
        stop.check()
        update
        stop.check()
    except types.StoppedError:
      save

  A signal to one of several processes stops them all.
  """

  _SIGNALS = (signal.SIGINT, signal.SIGTERM)

  def __init__(self):
    self._received: signal.Signals | None = None
    self._agreed: signal.Signals | None = None
    self._previous = {}
    self._calls: list[Callable[[], None]] = []

  def __enter__(self) -> 'StopRequest':
    for number in self._SIGNALS:
      self._previous[number] = signal.signal(number, self._receive)
    return self

  def __exit__(self, *exception) -> None:
    for number, handler in self._previous.items():
      # None: it was not set from Python (jax.distributed's), and cannot be so.
      signal.signal(number, signal.SIG_DFL if handler is None else handler)

  @property
  def is_requested(self) -> bool:
    """Whether to save and leave. Collective: call it in every process."""
    if self._agreed is None:
      signals = distributed.gather(self._received)
      self._agreed = next((s for s in signals if s is not None), None)
    return self._agreed is not None

  def check(self) -> None:
    """Leaves the work that is going on where a signal asked for it.

    Collective: call it in every process.

    Raises:
      StoppedError: in every process.
    """
    if self.is_requested:
      raise types.StoppedError

  def wait(self, arrays: Any) -> None:
    """Waits until the devices have computed arrays, or a signal comes.

    Of several processes none waits here: they agree on a signal by a
    collective, which the devices would make after the arrays.

    Raises:
      StoppedError: a signal came first; the devices go on by themselves.
    """
    seconds = 1e-3
    while distributed.count() == 1 and not all(
      leaf.is_ready() for leaf in jax.tree.leaves(arrays)
    ):
      if self._received is not None:
        raise types.StoppedError
      time.sleep(seconds)
      # Looks again after a twentieth of what it has waited.
      seconds = min(1.05 * seconds, _LONGEST_WAIT_SECONDS)

  @contextlib.contextmanager
  def calling(self, function: Callable[[], None]) -> Iterator[None]:
    """Calls a function at the first signal, too, until the block ends.

    In the process that receives it, and at any moment: it may set a flag.
    """
    self._calls.append(function)
    try:
      yield
    finally:
      self._calls.remove(function)

  @property
  def exit_code(self) -> int:
    """128 + the signal's number, as shells expect; 0 without a signal."""
    stopped_by = self._agreed or self._received
    return 0 if stopped_by is None else 128 + stopped_by

  def _receive(self, number: int, frame: object) -> None:
    del frame
    if self._received is not None:
      # The default handler ends the process, whatever it is waiting for.
      signal.signal(number, signal.SIG_DFL)
      os.kill(os.getpid(), number)
      return
    self._received = signal.Signals(number)
    # To the file descriptor of stderr: a handler may interrupt a print.
    os.write(
      2,
      f'{self._received.name}: stopping as soon as the state can be saved; '
      'once more stops at once, without saving.\n'.encode(),
    )
    for function in self._calls:
      function()
