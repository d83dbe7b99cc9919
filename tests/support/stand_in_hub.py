"""A server on this machine that answers as the Hugging Face Hub and Kaggle do.

Only what their clients ask for to download a model.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import hashlib
import http.server
import importlib.util
import json
import pathlib
import re
import threading
from urllib import parse

import pytest

from score_jax.interop import hub


def needs(client: str) -> pytest.MarkDecorator:
  """Skips a test where a hub's client is missing."""
  return pytest.mark.skipif(
    importlib.util.find_spec(client) is None,
    reason=f'{client} is missing: install the extra hub',
  )


@dataclasses.dataclass(frozen=True)
class Server:
  """A running server.

  Attributes:
    url: its address.
    gated: models for which a token is required.
    downloads: names of the files that were downloaded, in order.
    revisions: the newest revision of every model, in turn; the last one stays.
  """

  url: str
  gated: set[str]
  downloads: list[str]
  revisions: list[str]


@contextlib.contextmanager
def serve(directory: pathlib.Path) -> Iterator[Server]:
  """Serves the models of `directory`, each in OWNER/MODEL."""

  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
      path = parse.unquote(parse.urlsplit(self.path).path)
      model = re.match(r'(?:/api/models)?/([^/]+/[^/]+)', path)[1]
      if not (directory / model).is_dir():
        # As for everybody without a token.
        return self.answer(401, {}, {'X-Error-Code': 'RepoNotFound'})
      if path.startswith('/api/models/'):
        return self.describe(model, path)
      name = path.split('/', 5)[5]
      if model in server.gated and 'Authorization' not in self.headers:
        return self.answer(401, {}, {'X-Error-Code': 'GatedRepo'})
      if model in server.gated:
        return self.answer(403, {}, {'X-Error-Code': 'GatedRepo'})
      revision = path.split('/')[4]
      data = (directory / model / name).read_bytes()
      if self.command == 'GET':
        server.downloads.append(name)
      tag = f'"{hashlib.sha256(data).hexdigest()}"'
      return self.send(200, data, {'ETag': tag, 'X-Repo-Commit': revision})

    do_HEAD = do_GET  # noqa: N815

    def describe(self, model, path):
      if 'revision/unknown' in path:
        return self.answer(404, {}, {'X-Error-Code': 'RevisionNotFound'})
      if '/tree/' in path:
        return self.answer(200, self.files(model))
      newest = server.revisions
      sha = newest.pop(0) if len(newest) > 1 else newest[0]
      return self.answer(200, {'id': model, 'sha': sha, 'siblings': []})

    def files(self, model):
      root = directory / model
      return [
        {
          'type': 'file',
          'path': str(path.relative_to(root)),
          'size': path.stat().st_size,
          'oid': '0' * 40,
        }
        for path in sorted(root.rglob('*'))
        if path.is_file()
      ]

    def do_POST(self):  # Kaggle
      length = int(self.headers['Content-Length'])
      asked = json.loads(self.rfile.read(length))
      model = f'{asked["ownerSlug"]}/{asked["modelSlug"]}'
      if not (directory / model).is_dir():
        return self.answer(404, {})
      if model in server.gated:
        return self.answer(403, {})
      if self.path.endswith('GetModelInstance'):
        return self.answer(200, {'versionNumber': 3})
      if self.path.endswith('ListModelInstanceVersionFiles'):
        files = [{'name': file['path']} for file in self.files(model)]
        return self.answer(200, {'files': files, 'nextPageToken': ''})
      server.downloads.append(asked['path'])
      return self.send(200, (directory / model / asked['path']).read_bytes())

    def answer(self, status, record, headers=()):
      kind = {'Content-Type': 'application/json'}
      self.send(status, json.dumps(record).encode(), kind | dict(headers))

    def send(self, status, data, headers=()):
      self.send_response(status)
      for name, value in dict(headers).items():
        self.send_header(name, value)
      self.send_header('Content-Length', str(len(data)))
      self.end_headers()
      if self.command != 'HEAD':
        self.wfile.write(data)

    def log_message(self, *arguments):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as held:
    server = Server(
      f'http://127.0.0.1:{held.server_address[1]}', set(), [], ['a' * 40]
    )
    threading.Thread(
      target=held.serve_forever, args=(0.05,), daemon=True
    ).start()
    yield server
    held.shutdown()


@contextlib.contextmanager
def talked_to(
  directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
  """Serves DIRECTORY/served, and the clients that are installed talk to it."""
  for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv('KAGGLEHUB_CACHE', str(directory / 'kaggle'))
  monkeypatch.setenv('KAGGLE_API_ENVIRONMENT', 'TEST')
  monkeypatch.delenv('HF_TOKEN', raising=False)
  hub._download.cache_clear()
  with serve(directory / 'served') as server:
    # What the clients read of the environment when they are imported.
    if importlib.util.find_spec('huggingface_hub'):
      from huggingface_hub import constants

      template = '/{repo_id}/resolve/{revision}/{filename}'
      for name, value in {
        'ENDPOINT': server.url,
        'HUGGINGFACE_CO_URL_TEMPLATE': server.url + template,
        'HF_HUB_CACHE': str(directory / 'hf'),
        'HF_TOKEN_PATH': str(directory / 'no_token'),
        'HF_HUB_DISABLE_PROGRESS_BARS': True,
      }.items():
        monkeypatch.setattr(constants, name, value)
    if importlib.util.find_spec('kagglehub'):
      from kagglesdk import kaggle_env

      monkeypatch.setitem(
        kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.TEST, server.url
      )
    yield server
  hub._download.cache_clear()
