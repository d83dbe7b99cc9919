"""Ctrl-C and SIGTERM: once to stop after this step, twice to stop at once."""

import os
import signal
import types


class StopRequest:
  """Turns the first signal into a request that the training loop honours.

  with interrupts.StopRequest() as stop:
    for step in ...:
      ...
      if stop.is_requested:
        save and leave
  """

  _SIGNALS = (signal.SIGINT, signal.SIGTERM)

  def __init__(self):
    self._received: signal.Signals | None = None
    self._previous = {}

  def __enter__(self) -> 'StopRequest':
    for number in self._SIGNALS:
      self._previous[number] = signal.signal(number, self._receive)
    return self

  def __exit__(self, *exception) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  @property
  def is_requested(self) -> bool:
    """Whether to save and leave after this step."""
    return self._received is not None

  @property
  def exit_code(self) -> int:
    """What a shell expects of a program that a signal ended; 0 without one."""
    return 0 if self._received is None else 128 + self._received

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
