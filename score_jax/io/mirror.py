"""A local folder with the files below a URL, for code that needs real files.

An object cannot be appended to: a file that has grown is uploaded anew. So this
is for small files; a checkpoint goes to its bucket by itself.
"""

from collections.abc import Callable, Collection
import functools
import pathlib
import shutil
import tempfile
import weakref

from score_jax.io import buckets


class Mirror:
  """The folder `path` and the objects below `url`, in one process.

  The folder is one of temporary files, the process's own: processes of one
  host, or a reader beside a trainer, have nothing to agree upon. It goes when
  the process ends.
  """

  def __init__(
    self,
    url: str,
    without: Collection[str] = (),
    first: Collection[str] = (),
  ):
    """Makes an empty folder; asks the bucket nothing.

    Args:
      url: what the folder mirrors.
      without: names of files and folders that are not mirrored, at any depth.
        Hidden ones never are.
      first: names of files, at any depth, that are uploaded before others.
    """
    self.url = url.rstrip('/')
    self._without = frozenset(without)
    self._first = frozenset(first)
    folder = tempfile.mkdtemp(prefix='score_jax-')
    # Also when the program ends.
    weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
    self.path = pathlib.Path(folder) / self.url.rpartition('/')[2]
    self.path.mkdir()
    # Whether this process is the one that writes: its files are the newest.
    self.is_ours = False
    # As both sides were when they were last the same, by name.
    self._remote: dict[str, tuple[int, str]] = {}
    self._local: dict[str, tuple[int, int]] = {}

  def pull(self) -> None:
    """Downloads what the bucket has anew; removes what it has no longer.

    Does nothing where `is_ours`.

    Raises:
      BucketError: the bucket cannot be read.
    """
    if self.is_ours:
      return
    remote = {
      name: version
      for name, version in buckets.listing(self.url).items()
      if self._is_mirrored(name)
    }
    new = [name for name in remote if remote[name] != self._remote.get(name)]
    buckets.get(self.url, self.path, new)
    for name in self._local.keys() - remote.keys():
      (self.path / name).unlink(missing_ok=True)
    self._remote = remote
    self._local = {name: self._state(name) for name in remote}

  def push(self, check: Callable[[], object] = lambda: None) -> None:
    """Uploads files that are new or changed; removes objects of removed ones.

    Args:
      check: called before anything is written.

    Raises:
      BucketError: the bucket cannot be written.
    """
    local = {
      name: self._state(name)
      for name in buckets.files_below(self.path)
      if self._is_mirrored(name)
    }
    changed = [name for name in local if local[name] != self._local.get(name)]
    removed = sorted(self._local.keys() - local.keys())
    if not (changed or removed):
      return
    check()
    first = [n for n in changed if n.rpartition('/')[2] in self._first]
    buckets.put(self.url, self.path, first)
    buckets.put(self.url, self.path, set(changed) - set(first))
    with buckets.one_line_errors(self.url):
      for name in removed:
        buckets.filesystem(self.url).rm_file(f'{self.url}/{name}')
    self._local = local

  def _is_mirrored(self, name: str) -> bool:
    return not any(
      part in self._without or part.startswith('.') for part in name.split('/')
    )

  def _state(self, name: str) -> tuple[int, int]:
    found = (self.path / name).stat()
    return found.st_size, found.st_mtime_ns


# One folder a process and URL, however often it is asked for.
of = functools.cache(Mirror)
