"""Where a run is kept: a directory, or a bucket with a folder that mirrors it.

A run in a bucket has its checkpoints and compiled programs written there; its
other files are in the folder, and are uploaded before each checkpoint, so that
logs are never behind it, and whenever something was evaluated or has ended.
"""

from collections.abc import Callable, Iterator
import contextlib
import errno
import fcntl
import logging
import os
import pathlib
import socket

from etils import epath

from score_jax import distributed
from score_jax.io import (
  bucket_lock,
  buckets,
  mirror,
  shared_directory,
  written_files,
)

_LOGGER = logging.getLogger(__name__)
CHECKPOINTS = 'checkpoints'
COMPILED = 'compiled'
LOCK = 'lock'


class RunError(RuntimeError):
  """The run cannot go on as asked; the message says what to do."""


# What a disk may say, and what to do then.
_REFUSALS = {
  errno.ENOSPC: 'make room',
  errno.EDQUOT: 'make room',
  errno.EIO: 'see to the disk',
  errno.EROFS: 'make it writable',
  errno.EACCES: 'make it writable',
}


@contextlib.contextmanager
def explaining_refusals(path: pathlib.Path) -> Iterator[None]:
  """Turns the error of a disk that refuses a write into one that says so.

  Args:
    path: of the run's files.

  Raises:
    RunError: a write was refused, or the directory is gone.
  """
  try:
    yield
  except RunError:
    raise
  except Exception as error:  # Orbax and tensorstore have their own
    reason = _refusal(path, error)
    if not reason:
      raise
    raise RunError(
      f'{reason}, and the same command goes on; what was saved before is as it '
      'was'
    ) from error


def _refusal(path: pathlib.Path, error: BaseException | None) -> str:
  """Which write was refused and what to do; '' where it is another error."""
  if isinstance(error, FileNotFoundError) and not path.is_dir():
    return f'{path} was removed while the run wrote to it: restore it'
  while error:
    text = ' '.join(str(error).split())
    for number, remedy in _REFUSALS.items():
      if os.strerror(number) in text:
        return f'the disk refuses a write ({text[:300]}): {remedy}'
    error = error.__cause__ or error.__context__
  return ''


class Storage:
  """A directory of this machine, or of a file system that hosts share.

  Attributes:
    place: where the run is, a path or URL.
    path: where its files are.
  """

  def __init__(self, place: str | os.PathLike[str]):
    self.place = epath.Path(place)
    self.path = pathlib.Path(place)

  def pull(self) -> None:
    """Downloads what is there, for a reader. Not a collective.

    Raises:
      RunError: it cannot be downloaded, or named in this locale.
    """
    _check_name(self.place)

  def push(self) -> None:
    """Uploads what the first process wrote. A collective."""

  def share(self) -> None:
    """As `push`, and the other processes download it. A collective."""

  @contextlib.contextmanager
  def lock(self, check: Callable[[], None]) -> Iterator[None]:
    """Holds the lock in the first process. A collective.

    Args:
      check: raises where the directory is none that may be written to. It is
        called before anything is written.

    Raises:
      RunError: another trainer holds the lock, or not all processes see the
        directory.
    """
    with contextlib.ExitStack() as held:
      distributed.by_first(lambda: held.enter_context(self._own_lock(check)))
      try:
        shared_directory.check(self.place)
      except shared_directory.NotSharedError as error:
        raise RunError(f'--run-dir={self.place}: {error}') from error
      yield

  @contextlib.contextmanager
  def _own_lock(self, check: Callable[[], None]) -> Iterator[None]:
    _check_name(self.place)
    check()
    try:
      self.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise RunError(f'--run-dir={self.path}: {error}') from error
    # Not 'w', which would erase the name of whoever holds the lock.
    with (self.path / LOCK).open('a+') as file:
      # The operating system ties the lock to the process: a killed trainer
      # leaves none behind.
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        file.seek(0)
        raise self._is_locked_by(file.read().strip()) from None
      except OSError as error:
        _LOGGER.warning(
          'no lock on this file system (%s): see to it yourself that no other '
          'trainer writes to %s', error, self.path
        )  # fmt: skip
      file.truncate(0)
      file.write(f'{_this_process()}\n')
      file.flush()
      yield
      file.truncate(0)

  def _is_locked_by(self, owner: str) -> RunError:
    return RunError(
      f'{self.place} is being written by {owner}; wait for it, stop it, or '
      'choose another --run-dir'
    )


class BucketStorage(Storage):
  """A bucket, and a folder of this process that mirrors the run's files.

  The folder is empty until `lock` or `pull` fills it.
  """

  def __init__(self, url: str | os.PathLike[str]):
    super().__init__(url)
    # First their digests, which for a moment know the files before, too.
    self._mirror = mirror.of(
      str(self.place), (CHECKPOINTS, COMPILED, LOCK), (written_files.NAME,)
    )
    self.path = self._mirror.path
    self._lock: bucket_lock.Lock | None = None

  def pull(self) -> None:
    with self._run_errors():
      # Whatever else is below the URL may be large, and is none of ours.
      if (self.place / written_files.NAME).exists():
        self._mirror.pull()

  def push(self) -> None:
    distributed.by_first(self._push)

  def share(self) -> None:
    self.push()
    distributed.everywhere(self._pull_others)

  @contextlib.contextmanager
  def lock(self, check: Callable[[], None]) -> Iterator[None]:
    with super().lock(check):
      distributed.everywhere(self._pull_others)
      yield

  @contextlib.contextmanager
  def _own_lock(self, check: Callable[[], None]) -> Iterator[None]:
    self.pull()
    with self._run_errors():
      check()
    with contextlib.ExitStack() as held:
      with self._run_errors():
        self._lock = held.enter_context(
          bucket_lock.hold(str(self.place / LOCK), _this_process())
        )
      self.pull()
      self._mirror.is_ours = True
      try:
        yield
      finally:
        self._push()
        self._mirror.is_ours = False

  def _push(self) -> None:
    with self._run_errors():
      if self._lock is None:
        self._mirror.push()
      else:
        self._mirror.push(self._lock.check)

  def _pull_others(self) -> None:
    if not distributed.is_first():
      self.pull()

  @contextlib.contextmanager
  def _run_errors(self) -> Iterator[None]:
    """Errors of buckets and locks become a `RunError`."""
    try:
      yield
    except RunError:
      raise
    except bucket_lock.LockedError as error:
      raise self._is_locked_by(str(error)) from error
    except Exception as error:  # of a client of buckets
      told = buckets.as_bucket_error(str(self.place), error)
      raise RunError(str(told)) from error


def _check_name(place: epath.Path) -> None:
  """Rejects what tensorstore cannot open: it would call arrays damaged.

  Raises:
    RunError: the locale has no letters for the path.
  """
  try:
    str(place).encode()
  except UnicodeEncodeError as error:
    raise RunError(
      f'{str(place)!a} has letters that this locale does not know: set '
      'PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8'
    ) from error


def of(place: str | os.PathLike[str]) -> Storage:
  """The storage of a run, by its path or URL."""
  return (BucketStorage if buckets.is_url(place) else Storage)(place)


def _this_process() -> str:
  return f'process {os.getpid()} on {socket.gethostname()}'
