"""Downloads through tensorflow-datasets, from a server on this machine."""

import functools
import gzip
import http.server
import sys
import threading

import pytest

from score_jax.tasks import code_problems, downloads, gsm8k, math_problems
from tests.support import shared_data

pytest.importorskip('tensorflow_datasets')


@pytest.fixture
def server(tmp_path, monkeypatch):
  """Serves tmp_path/served; TFDS keeps what it prepares below tmp_path."""
  (tmp_path / 'served').mkdir()
  handler = functools.partial(
    http.server.SimpleHTTPRequestHandler, directory=tmp_path / 'served'
  )
  monkeypatch.setattr(
    http.server.SimpleHTTPRequestHandler, 'log_message', lambda *a: None
  )
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
  for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'):
    monkeypatch.delenv(name, raising=False)
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as held:
    threading.Thread(target=held.serve_forever, daemon=True).start()
    yield tmp_path / 'served', f'http://127.0.0.1:{held.server_address[1]}/'
    held.shutdown()


def test_downloaded_problems_are_those_of_the_files(server, monkeypatch):
  directory, url = server
  data_dir = str(shared_data.path('math').parent)
  for split, name in (
    ('train', 'math/math_train_12000_minus_math500.jsonl'),
    ('test', 'math/math500_test.jsonl'),
  ):
    lines = shared_data.path(name).read_text().split('\n')[:40]
    (directory / f'{split}.jsonl').write_text('\n'.join(lines) + '\n')
  monkeypatch.setattr(math_problems, '_URL', url)
  downloaded = math_problems.load_problems()
  read = math_problems.load_problems(data_dir)
  assert downloaded['test'] == read['test'][:40]
  assert downloaded['train'] == read['train'][:40]
  # The second time nothing is downloaded.
  for file in directory.iterdir():
    file.unlink()
  assert math_problems.load_problems() == downloaded


def test_compressed_files(server, monkeypatch):
  directory, url = server
  data = shared_data.path('humaneval/HumanEval.jsonl.gz').read_bytes()
  lines = gzip.decompress(data).split(b'\n')[:5]
  (directory / 'few.jsonl.gz').write_bytes(gzip.compress(b'\n'.join(lines)))
  monkeypatch.setattr(code_problems, '_HUMANEVAL_URL', url + 'few.jsonl.gz')
  read = code_problems.load_humaneval(str(shared_data.path('humaneval').parent))
  assert code_problems.load_humaneval() == read[:5]


def test_gsm8k_by_its_own_builder(server, monkeypatch):
  directory, url = server
  data_dir = shared_data.path('gsm8k')
  from tensorflow_datasets.text.gsm8k import gsm8k as builder

  for name in ('train', 'test', 'train_socratic', 'test_socratic'):
    source = data_dir / f'{name.removesuffix("_socratic")}.jsonl'
    lines = source.read_text().split('\n')[:30]
    (directory / f'{name}.jsonl').write_text('\n'.join(lines) + '\n')
  urls = {k: f'{url}{k}.jsonl' for k in builder._URLS}
  monkeypatch.setattr(builder, '_URLS', urls)
  downloaded = gsm8k.load_problems()
  read = gsm8k.load_problems(str(directory))
  assert downloaded == read
  assert len(read['train']) == 30


def test_without_a_connection_the_other_source_is_named(server):
  _, url = server
  with pytest.raises(OSError, match='data_dir'):
    downloads.raw_rows('score_missing', {'test': url + 'missing.jsonl'})


def test_tensorflow_is_not_needed(server):
  assert 'tensorflow' not in sys.modules
