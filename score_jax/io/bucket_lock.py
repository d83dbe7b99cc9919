"""A lock in a bucket: an object that is made only where there is none.

Its holder rewrites it every few seconds. Who finds it watches it: where it
changes, somebody is at work; where it does not, its holder was killed, and it
is taken over. No clock of another machine is read.
"""

from collections.abc import Iterator
import contextlib
import json
import logging
import threading
import time
import uuid

from score_jax.io import buckets

_LOGGER = logging.getLogger(__name__)
RENEWED_EVERY = 5.0
# Seconds without a change after which a lock's holder is taken for dead.
STALE_AFTER = 30.0
_WATCHED_EVERY = 1.0
# Seconds in which two that take over at the same time see each other.
_SETTLED_AFTER = 2.0


class LockedError(RuntimeError):
  """Another holds the lock; the message is the owner that it names."""


class Lock:
  """A lock that this process holds."""

  def __init__(self, url: str, owner: str):
    self._url = url
    self._owner = owner
    self._token = uuid.uuid4().hex
    self._renewals = 0
    self._taken_by: str | None = None
    self._ended = threading.Event()
    self._thread = threading.Thread(
      target=self._keep, name='bucket lock', daemon=True
    )

  def check(self) -> None:
    """Checks that nobody has taken the lock from a holder that stood still.

    Raises:
      LockedError: somebody has.
    """
    if self._taken_by is not None:
      raise LockedError(self._taken_by)

  def acquire(self) -> None:
    """Makes the object, or takes over one that does not change.

    Raises:
      LockedError: another holds it.
      BucketError: the bucket cannot be written.
    """
    with buckets.one_line_errors(self._url):
      other = None if self._create() else self._take_over()
    if other is not None:
      raise LockedError(other)
    self._thread.start()

  def release(self) -> None:
    """Removes the object, if it is still this process's."""
    self._ended.set()
    self._thread.join()
    with buckets.one_line_errors(self._url):
      if self._token in (self._read() or ''):
        buckets.filesystem(self._url).rm_file(self._url)

  def _take_over(self) -> str | None:
    """Takes the lock of a dead holder; returns the owner of one at work."""
    before = self._read()
    owner = _owner(before)
    _LOGGER.warning(
      '%s is locked by %s; watching for up to %.0f s whether that is alive',
      self._url, owner, STALE_AFTER,
    )  # fmt: skip
    deadline = time.monotonic() + STALE_AFTER
    while time.monotonic() < deadline:
      time.sleep(_WATCHED_EVERY)
      content = self._read()
      if content is None and self._create():
        return None
      if content != before:
        return _owner(content)
    _LOGGER.warning(
      '%s did not renew its lock for %.0f s: it is taken over',
      owner, STALE_AFTER,
    )  # fmt: skip
    if self._read() == before:
      buckets.filesystem(self._url).rm_file(self._url)
    if self._create():
      time.sleep(_SETTLED_AFTER)
    content = self._read()
    return None if self._token in (content or '') else _owner(content)

  def _create(self) -> bool:
    try:
      with buckets.filesystem(self._url).open(self._url, 'xb') as file:
        file.write(self._content())
    except FileExistsError:
      return False
    return True

  def _keep(self) -> None:
    """Renews the lock until it is released, or taken."""
    while not self._ended.wait(RENEWED_EVERY):
      # A connection may fail, and work again the next time.
      with contextlib.suppress(Exception):
        content = self._read()
        if self._token not in (content or ''):
          self._taken_by = _owner(content)
          return
        self._renewals += 1
        buckets.filesystem(self._url).pipe_file(self._url, self._content())

  def _read(self) -> str | None:
    try:
      return buckets.filesystem(self._url).cat_file(self._url).decode()
    except FileNotFoundError:
      return None

  def _content(self) -> bytes:
    record = {
      'owner': self._owner,
      'time': time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime()),
      'renewals': self._renewals,
      'token': self._token,
    }
    return json.dumps(record).encode()


@contextlib.contextmanager
def hold(url: str, owner: str) -> Iterator[Lock]:
  """Holds a lock.

  Args:
    url: of the object.
    owner: for people: which process, on which machine.

  Raises:
    LockedError: another holds it.
    BucketError: the bucket cannot be written.
  """
  lock = Lock(url, owner)
  lock.acquire()
  try:
    yield lock
  finally:
    lock.release()


def _owner(content: str | None) -> str:
  try:
    record = json.loads(content or '')
    return f'{record["owner"]} (last sign of life {record["time"]})'
  except (ValueError, KeyError, TypeError):
    return 'somebody'
