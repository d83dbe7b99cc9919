"""Local object servers: of Google Cloud Storage's JSON API, and of S3.

The first is gcp-storage-emulator, to which this adds what it lacks and
tensorstore and locks need: preconditions on an object's generation, and the
header that tells it. The second is moto's.

    python -m tests.support.object_server bash

is a shell in which programs find an empty gs://score-jax-tests, in memory.
"""

from collections.abc import Iterator, Mapping
import contextlib
import functools
import http.server
import importlib.util
import logging
import os
import subprocess
import sys
import threading
from urllib import parse

import pytest

BUCKET = 'score-jax-tests'
URL = f'gs://{BUCKET}'
_PACKAGES = ('gcsfs', 's3fs', 'gcp_storage_emulator', 'moto')
INSTALL = "pip install '.[gs,s3,object-servers]'"

needs_packages = pytest.mark.skipif(
  not all(map(importlib.util.find_spec, _PACKAGES)), reason=INSTALL
)


@contextlib.contextmanager
def serve() -> Iterator[Mapping[str, str]]:
  """Serves an empty bucket of `gs://`.

  Yields the environment that leads programs to it, which this process has, too,
  while the block runs.
  """
  # It logs each object that is asked for and is not there.
  logging.getLogger('gcp_storage_emulator').setLevel(logging.CRITICAL)
  storage = _storage()
  handler = functools.partial(_handler(), storage)
  server = _Server(('localhost', 0), handler)
  thread = threading.Thread(target=server.serve_forever)
  thread.start()
  address = f'http://localhost:{server.server_address[1]}'
  own = {
    'STORAGE_EMULATOR_HOST': address,
    'TENSORSTORE_GCS_HTTP_URL': address,
    # Each of these asks machines of Google's otherwise.
    'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',
    'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'none',
    'NO_GCE_CHECK': 'true',
  }
  try:
    with _environment(own):
      yield os.environ | own
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


@contextlib.contextmanager
def serve_s3() -> Iterator[Mapping[str, str]]:
  """As `serve`, of `s3://`."""
  from moto import server as moto_server
  import s3fs

  server = moto_server.ThreadedMotoServer('localhost', port=0, verbose=False)
  server.start()
  host, port = server.get_host_and_port()
  own = {
    'AWS_ENDPOINT_URL': f'http://{host}:{port}',
    'AWS_ACCESS_KEY_ID': 'test',
    'AWS_SECRET_ACCESS_KEY': 'test',
    'AWS_DEFAULT_REGION': 'us-east-1',
  }
  try:
    with _environment(own):
      s3fs.S3FileSystem().mkdir(BUCKET)
      yield os.environ | own
  finally:
    server.stop()


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
  with pytest.MonkeyPatch.context() as patch:
    for name, value in variables.items():
      patch.setenv(name, value)
    yield


class _Server(http.server.ThreadingHTTPServer):
  """A thread a connection, as clients open some that they do not use yet."""

  # Also of a client that listens no longer.
  block_on_close = False
  # Of 5, http.server's own, some would have to connect again, seconds later.
  request_queue_size = 128

  def handle_error(self, *_):
    """Says nothing where a client left, as killed ones do."""


class _PreconditionError(Exception):
  """The object is of another generation than the request asks for."""


def _storage():
  from gcp_storage_emulator import storage
  from gcp_storage_emulator.handlers import buckets

  class Storage(storage.Storage):
    """Checks the generation that the request in hand expects."""

    expected = None
    lock = threading.RLock()

    def generation(self, bucket: str, name: str) -> str:
      try:
        return self.get_file_obj(bucket, name)['generation']
      except storage.NotFound:
        return '0'

    def create_file(self, bucket, name, content, entry, *rest, **options):
      if self.expected not in (None, self.generation(bucket, name)):
        raise _PreconditionError
      super().create_file(bucket, name, content, entry, *rest, **options)

  found = Storage(use_memory_fs=True)
  buckets.create_bucket(BUCKET, found)
  return found


def _handler():
  from gcp_storage_emulator import server

  class Handler(server.RequestHandler):
    """One request at a time, so that to check and to write is one act."""

    def _post(self):
      # Answered 501, which clients try again for half a minute.
      if '/moveTo/' in self.path:
        self.send_error(400)
        return
      with self.storage.lock:
        self.storage.expected = self._asked('ifGenerationMatch')
        try:
          super().do_POST()
        except _PreconditionError:
          self.send_error(412)
        finally:
          self.storage.expected = None

    def _get(self):
      with self.storage.lock:
        if self._asked('ifGenerationNotMatch') == self._generation != '0':
          self.send_error(304)
        else:
          super().do_GET()

    def _put(self):
      with self.storage.lock:
        super().do_PUT()

    def _delete(self):
      with self.storage.lock:
        if self._asked('ifGenerationMatch') in (None, self._generation):
          super().do_DELETE()
        else:
          self.send_error(412)

    def end_headers(self):
      self.send_header('x-goog-generation', self._generation)
      super().end_headers()

    def log_message(self, *_):
      pass

    def _asked(self, name: str) -> str | None:
      query = parse.parse_qs(parse.urlsplit(self.path).query)
      return query.get(name, [None])[0]

    @property
    def _generation(self) -> str:
      """Of the object that the path names; 0 where there is none."""
      path = parse.urlsplit(self.path).path
      bucket, _, name = path.partition('/b/')[2].partition('/o/')
      return self.storage.generation(bucket, parse.unquote(name))

  for method in ('POST', 'GET', 'PUT', 'DELETE'):
    # http.server's names for them.
    setattr(Handler, f'do_{method}', getattr(Handler, f'_{method.lower()}'))
  return Handler


if __name__ == '__main__':
  with serve() as inside:
    sys.exit(subprocess.run(sys.argv[1:], env=inside).returncode)
