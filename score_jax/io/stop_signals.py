"""Ctrl-C and SIGTERM: once to stop after this step, twice to stop at once."""

import os
import signal
import types

from score_jax import distributed


class StopRequest:
  """Turns the first signal into a request that a training loop reads.

  with stop_signals.StopRequest() as stop:
    for step in ...:
      ...
      if stop.is_requested:
        save and leave

  A signal to one of several processes stops them all.
  """

  _SIGNALS = (signal.SIGINT, signal.SIGTERM)

  def __init__(self):
    self._received: signal.Signals | None = None
    self._agreed: signal.Signals | None = None
    self._previous = {}

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
    """Whether to save and leave after this step.

    Collective: call it in every process.
    """
    if self._agreed is None:
      signals = distributed.gather(self._received)
      self._agreed = next((s for s in signals if s is not None), None)
    return self._agreed is not None

  @property
  def exit_code(self) -> int:
    """128 + the signal's number, as shells expect; 0 without a signal."""
    stopped_by = self._agreed or self._received
    return 0 if stopped_by is None else 128 + stopped_by

  def _receive(self, number: int, frame: types.FrameType | None) -> None:
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
      f'{self._received.name}: stopping after this step, then saving; '
      'once more stops at once, without saving.\n'.encode(),
    )
