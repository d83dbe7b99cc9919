"""Whether all processes see one directory, found out before they rely on it."""

import socket
import time
import uuid

from etils import epath

from score_jax import distributed

# A directory of a network file system may show a new file late.
_SECONDS = 10.0
_LOOKED_EVERY = 0.2


class NotSharedError(RuntimeError):
  """Some processes see another directory; the message names their hosts."""


def check(directory: epath.Path) -> None:
  """Has the first process leave a file that all others must read. Collective.

  Where one cannot, it takes 10 seconds. The file is removed.

  Args:
    directory: a path or URL that exists in the first process.

  Raises:
    NotSharedError: in every process.
  """
  if distributed.count() == 1:
    return
  nonce = uuid.uuid4().hex
  writer, nonce = distributed.agree((socket.gethostname(), nonce))
  note = directory / f'.seen-{nonce}'
  distributed.by_first(lambda: note.write_text(nonce))
  sees = _is_read(note, nonce)
  seen = distributed.gather((socket.gethostname(), sees))
  distributed.by_first(note.unlink)
  blind = [
    f'{host} (process {i})' for i, (host, sees) in enumerate(seen) if not sees
  ]
  if blind:
    more = f' and {len(blind) - 8} more' if len(blind) > 8 else ''
    raise NotSharedError(
      f'{", ".join(blind[:8])}{more} cannot see what {writer} (process 0) '
      f'writes to {directory}: all processes need one directory, on a file '
      'system that their hosts share, or in a bucket: gs://BUCKET/NAME'
    )


def _is_read(note: epath.Path, nonce: str) -> bool:
  deadline = time.monotonic() + _SECONDS
  while True:
    try:
      # Listing a directory makes a network file system look again.
      if note in note.parent.iterdir() and note.read_text() == nonce:
        return True
    except Exception:  # of a file system, or a client of buckets
      pass
    if time.monotonic() > deadline:
      return False
    time.sleep(_LOOKED_EVERY)
