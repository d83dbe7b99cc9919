"""Downloads through tensorflow-datasets, from a server on this machine."""

import functools
import gzip
import hashlib
import http.server
import sys
import threading

import pytest

from score_jax.tasks import code_problems, downloads, gsm8k, math_problems
from tests.support import shared_data

pytest.importorskip('tensorflow_datasets')
from tensorflow_datasets.core import constants  # noqa: E402


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
  # Not TFDS_DATA_DIR, which was read when TFDS was imported.
  monkeypatch.setattr(constants, 'DATA_DIR', str(tmp_path / 'tfds'))
  for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'):
    monkeypatch.delenv(name, raising=False)
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as held:
    threading.Thread(
      target=held.serve_forever, args=(0.05,), daemon=True
    ).start()
    yield tmp_path / 'served', f'http://127.0.0.1:{held.server_address[1]}/'
    held.shutdown()


def published(path, *urls):
  """What the file of a path is, at these addresses."""
  data = path.read_bytes()
  digest = hashlib.sha256(data).hexdigest()
  return downloads.PublishedFile(urls, len(data), digest)


def test_downloaded_problems_are_those_of_the_files(server, monkeypatch):
  directory, url = server
  data_dir = str(shared_data.path('math').parent)
  for split, name in (
    ('train', 'math/math_train_12000_minus_math500.jsonl'),
    ('test', 'math/math500_test.jsonl'),
  ):
    lines = shared_data.path(name).read_text().split('\n')[:40]
    (directory / f'{split}.jsonl').write_text('\n'.join(lines) + '\n')
  files = {
    split: published(directory / name, url + name)
    for split in ('train', 'test')
    for name in (f'{split}.jsonl',)
  }
  monkeypatch.setattr(math_problems, '_PUBLISHED', files)
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
  few = published(directory / 'few.jsonl.gz', f'{url}few.jsonl.gz')
  monkeypatch.setitem(code_problems._PUBLISHED, 'HumanEval.jsonl.gz', few)
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


def test_the_second_address_stands_in_for_the_first(server):
  directory, url = server
  (directory / 'right.jsonl').write_text('{"x": 1}\n')
  # Of the same size, with another number.
  (directory / 'wrong.jsonl').write_text('{"x": 2}\n')
  right, wrong = f'{url}right.jsonl', f'{url}wrong.jsonl'
  for name, first in (
    ('score_moved', f'{url}missing.jsonl'),
    ('score_x', wrong),
  ):
    file = published(directory / 'right.jsonl', first, right)
    assert downloads.raw_rows(name, {'test': file}) == {'test': [{'x': 1}]}
  # What has wrong bytes is nobody's.
  file = published(directory / 'right.jsonl', wrong, f'{url}missing.jsonl')
  for _ in range(2):
    says = f'tried {wrong} .*other bytes.* and {url}missing.*404.* data_dir'
    with pytest.raises(OSError, match=says):
      downloads.raw_rows('score_wrong', {'test': file})


@pytest.mark.parametrize(
  ('name', 'published'),
  [
    ('math/math500_test.jsonl', math_problems._PUBLISHED['test']),
    *(
      (f'{folder}/{name}', code_problems._PUBLISHED[name])
      for folder, name in (
        ('mbpp', 'mbpp.jsonl'),
        ('mbpp', 'sanitized-mbpp.json'),
        ('humaneval', 'HumanEval.jsonl.gz'),
      )
    ),
  ],
)
def test_sums_are_of_the_published_bytes(name, published):
  data = shared_data.path(name).read_bytes()
  assert len(data) == published.size
  assert hashlib.sha256(data).hexdigest() == published.sha256


def test_tensorflow_is_not_needed(server):
  assert 'tensorflow' not in sys.modules
