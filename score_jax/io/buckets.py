"""Buckets, by URL: gs://BUCKET/NAME and s3://BUCKET/NAME, through fsspec.

fsspec's clients find credentials as their clouds' own programs do: on a Cloud
TPU nothing is to be done; elsewhere `gcloud auth application-default login`, or
AWS's variables.
"""

from collections.abc import Collection, Iterable, Iterator
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

import fsspec

# Packages of the extras `gs` and `s3`, by scheme.
CLIENTS = {'gs': 'gcsfs', 's3': 's3fs'}
# Another process may have written since a listing was made.
for _scheme in CLIENTS:
  fsspec.config.conf.setdefault(_scheme, {})['use_listings_cache'] = False


class BucketError(OSError):
  """A bucket cannot be used; the message, of one line, says what to do."""


def is_url(place: str | os.PathLike[str]) -> bool:
  """Whether a place is a URL, and not a path of this machine."""
  return '://' in os.fspath(place)


def reason_against(url: str) -> str | None:
  """Why a URL cannot be used, as far as this machine tells; None: it may.

  Asks nobody.
  """
  scheme, _, rest = url.partition('://')
  if scheme not in CLIENTS:
    return f'of URLs, only {" and ".join(f"{s}://" for s in CLIENTS)} are read'
  if not rest.strip('/'):
    return f'names no bucket; {scheme}://BUCKET/NAME'
  client = CLIENTS[scheme]
  if importlib.util.find_spec(client) is None:
    return f'needs the package {client}: pip install {client}'
  return None


def filesystem(url: str) -> Any:
  """The file system, of fsspec, that a URL names.

  Raises:
    BucketError: the URL or the machine has no such.
  """
  if why := reason_against(url):
    raise BucketError(f'{url}: {why}')
  return fsspec.filesystem(url.partition('://')[0])


@contextlib.contextmanager
def one_line_errors(url: str) -> Iterator[None]:
  """Whatever a client raises in the block becomes a `BucketError`."""
  try:
    yield
  except Exception as error:  # of the client, the cloud, the connection
    raise as_bucket_error(url, error) from error


def as_bucket_error(url: str, error: Exception) -> BucketError:
  """The error of a client of buckets, in one line."""
  if isinstance(error, BucketError):
    return error
  why = ' '.join(str(error).split())[:300]
  return BucketError(
    f'{url}: {type(error).__name__}: {why} (does the bucket exist, is it '
    'reached from here, and has this machine the right to use it? gcloud auth '
    'application-default login, or AWS_ACCESS_KEY_ID)'
  )


def listing(url: str) -> dict[str, tuple[int, str]]:
  """Size and version of each object below a URL, by its name there.

  Raises:
    BucketError: the bucket cannot be read.
  """
  url = url.rstrip('/')
  with one_line_errors(url):
    found = filesystem(url).find(url, detail=True)
  root = url.partition('://')[2]
  return {
    key.removeprefix(f'{root}/'): (info['size'], _version(info))
    for key, info in sorted(found.items())
    # A console's "create folder" makes an empty object.
    if key.startswith(f'{root}/') and not key.endswith('/')
  }


def _version(info: dict[str, Any]) -> str:
  for name in ('generation', 'etag', 'ETag', 'mtime', 'LastModified'):
    if info.get(name):
      return str(info[name])
  return ''


def download(url: str, only: Collection[str] | None = None) -> pathlib.Path:
  """A local copy of all that is below a URL, made once on a host.

  It is kept under $SCORE_JAX_CACHE, or ~/.cache/score_jax, in a directory that
  is called by the versions of the objects. Of several processes of a host one
  downloads, and the others wait for it.

  Args:
    url: of a directory.
    only: names of objects in it; None: all.

  Raises:
    BucketError: there is nothing there, or it cannot be read.
  """
  url = url.rstrip('/')
  found = listing(url)
  if only is not None:
    found = {name: found[name] for name in only if name in found}
  if not found:
    raise BucketError(f'{url}: there is nothing below this URL')
  revision = hashlib.sha256(json.dumps([url, found]).encode()).hexdigest()[:16]
  cache = os.environ.get('SCORE_JAX_CACHE') or '~/.cache/score_jax'
  folder = pathlib.Path(cache).expanduser() / url.rpartition('/')[2]
  folder.mkdir(parents=True, exist_ok=True)
  target = folder / revision
  with (folder / f'{revision}.lock').open('w') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    if not target.exists():
      partial = folder / f'{revision}.partial'
      shutil.rmtree(partial, ignore_errors=True)
      get(url, partial, found)
      partial.rename(target)
  return target


def get(url: str, folder: pathlib.Path, names: Iterable[str]) -> None:
  """Downloads objects, by their names below a URL, into a folder.

  Raises:
    BucketError: the bucket cannot be read.
  """
  names = list(names)
  if names:
    with one_line_errors(url):
      filesystem(url).get(
        [f'{url}/{name}' for name in names],
        [str(folder / name) for name in names],
      )


def put(url: str, folder: pathlib.Path, names: Iterable[str]) -> None:
  """Uploads a folder's files, by their names in it, below a URL.

  Raises:
    BucketError: the bucket cannot be written.
  """
  names = list(names)
  if names:
    with one_line_errors(url):
      filesystem(url).put(
        [str(folder / name) for name in names],
        [f'{url}/{name}' for name in names],
      )


@contextlib.contextmanager
def written(place: str) -> Iterator[pathlib.Path]:
  """A directory to be made, whose files are uploaded where the place is a URL.

  A local place is yielded as it is. For a URL, a path under the directory of
  temporary files: it needs room for what is written.

  Raises:
    BucketError: the bucket cannot be written.
  """
  if not is_url(place):
    yield pathlib.Path(place)
    return
  with tempfile.TemporaryDirectory(prefix='score_jax-') as folder:
    path = pathlib.Path(folder) / place.rstrip('/').rpartition('/')[2]
    yield path
    put(place.rstrip('/'), path, files_below(path))


def files_below(folder: pathlib.Path) -> list[str]:
  """Names of all files below a folder, relative to it."""
  return sorted(
    path.relative_to(folder).as_posix()
    for path in folder.rglob('*')
    if path.is_file()
  )
