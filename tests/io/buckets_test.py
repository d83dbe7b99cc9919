"""Buckets, against a real local object server."""

import pathlib

import pytest

from score_jax.io import bucket_lock, buckets, mirror
from score_jax.tasks import downloads
from tests.support import object_server

pytestmark = [
  object_server.needs_packages,
  # Of packages that are not score_jax's.
  pytest.mark.filterwarnings('default'),
]


@pytest.fixture(scope='module', params=['gs', 's3'])
def bucket(request):
  serve = {'gs': object_server.serve, 's3': object_server.serve_s3}
  with serve[request.param]():
    yield f'{request.param}://{object_server.BUCKET}'


@pytest.fixture
def url(bucket, request):
  """A URL of its own for each test."""
  return f'{bucket}/{request.function.__name__}'


def files(url):
  return buckets.filesystem(url)


def write(folder: pathlib.Path, **texts) -> None:
  for name, text in texts.items():
    path = folder / name.replace('__', '/')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read(folder: pathlib.Path) -> dict[str, str]:
  return {n: (folder / n).read_text() for n in buckets.files_below(folder)}


@pytest.mark.parametrize(
  ('place', 'why'),
  [
    ('gs://', 'names no bucket'),
    ('ftp://somewhere', 'only gs:// and s3:// are read'),
    ('gs://b/x', None),
  ],
)
def test_what_is_wrong_with_a_url(place, why):
  found = buckets.reason_against(place)
  assert found is None if why is None else why in found


def test_a_bucket_that_does_not_exist_is_one_line(bucket):
  url = bucket.replace(object_server.BUCKET, 'no-such-bucket/run')
  with pytest.raises(buckets.BucketError) as error:
    buckets.download(url)
  assert str(error.value).startswith(f'{url}: ')
  assert '\n' not in str(error.value)


def test_a_mirror_uploads_what_changed_and_removes_what_went(url):
  one, other = mirror.Mirror(url), mirror.Mirror(url)
  write(one.path, a='1', b__c='2', b__d='3')
  one.push()
  other.pull()
  assert read(other.path) == {'a': '1', 'b/c': '2', 'b/d': '3'}
  versions = buckets.listing(url)
  with (one.path / 'a').open('a') as file:
    file.write('1')
  (one.path / 'b' / 'd').unlink()
  one.push()
  other.pull()
  assert read(other.path) == {'a': '11', 'b/c': '2'}
  # What had not changed was not uploaded again.
  after = buckets.listing(url)
  assert after['b/c'] == versions['b/c']
  assert after['a'] != versions['a']


def test_a_mirror_leaves_alone_what_it_is_told_to(url):
  one = mirror.Mirror(url, ('checkpoints',))
  files(url).pipe(f'{url}/base/checkpoints/1/array', b'large')
  write(one.path, a='1')
  write(one.path / 'base' / 'checkpoints', array='2')
  write(one.path, **{'.hidden': '3'})
  one.push()
  one.pull()
  assert set(buckets.listing(url)) == {'a', 'base/checkpoints/1/array'}
  assert not (one.path / 'base' / 'checkpoints' / '1').exists()


def test_who_writes_downloads_nothing_over_its_own(url):
  one = mirror.Mirror(url)
  write(one.path, log='old')
  one.push()
  one.is_ours = True
  write(one.path, log='longer, not uploaded yet')
  one.pull()
  assert read(one.path) == {'log': 'longer, not uploaded yet'}


def test_a_download_is_made_once_for_each_version(url, tmp_path, monkeypatch):
  monkeypatch.setenv('SCORE_JAX_CACHE', str(tmp_path))
  files(url).pipe(f'{url}/config.json', b'{}')
  files(url).pipe(f'{url}/deeper/weights', b'1')
  first = buckets.download(url)
  assert read(first) == {'config.json': '{}', 'deeper/weights': '1'}
  assert first.parent.name == url.rpartition('/')[2]
  (first / 'mark').touch()
  assert (buckets.download(url) / 'mark').exists()
  files(url).pipe(f'{url}/deeper/weights', b'2')
  second = buckets.download(url)
  assert read(second) == {'config.json': '{}', 'deeper/weights': '2'}
  with pytest.raises(buckets.BucketError, match='nothing below this URL'):
    buckets.download(f'{url}/nowhere')


def test_data_are_read_from_a_bucket(url):
  files(url).pipe(f'{url}/mbpp/rows.jsonl', b'{"a": 1}\n{"a": 2}\n')
  rows = downloads.read_or_download(
    url, {'all': ('rows.jsonl', 'mbpp/rows.jsonl')}, download=dict
  )
  assert rows == {'all': [{'a': 1}, {'a': 2}]}


def test_a_directory_is_written_to_a_bucket(url):
  with buckets.written(f'{url}/export') as folder:
    folder.mkdir()
    write(folder, deep__file='1')
  assert set(buckets.listing(url)) == {'export/deep/file'}


@pytest.fixture
def fast_locks(monkeypatch):
  """Locks whose holder is dead after 1.5 s without a sign of life."""
  monkeypatch.setattr(bucket_lock, 'RENEWED_EVERY', 0.2)
  monkeypatch.setattr(bucket_lock, 'STALE_AFTER', 1.5)
  monkeypatch.setattr(bucket_lock, '_WATCHED_EVERY', 0.1)
  monkeypatch.setattr(bucket_lock, '_SETTLED_AFTER', 0.1)


@pytest.mark.usefixtures('fast_locks')
def test_a_lock_is_held_by_one(url):
  lock = f'{url}/lock'
  with (
    bucket_lock.hold(lock, 'process 1 on a'),
    pytest.raises(bucket_lock.LockedError, match='process 1 on a'),
  ):
    bucket_lock.Lock(lock, 'process 2 on b').acquire()
  assert not files(url).exists(lock)
  with bucket_lock.hold(lock, 'process 2 on b') as held:
    held.check()


@pytest.mark.usefixtures('fast_locks')
def test_the_lock_of_a_killed_trainer_is_taken_over(url, caplog):
  lock = f'{url}/lock'
  files(url).pipe(lock, b'{"owner": "process 1 on a", "time": "then"}')
  with bucket_lock.hold(lock, 'process 2 on b'):
    assert b'process 2 on b' in files(url).cat(lock)
  assert 'process 1 on a (last sign of life then) did not renew' in caplog.text


@pytest.mark.usefixtures('fast_locks')
def test_a_holder_that_stood_still_learns_that_its_lock_is_taken(url):
  lock = f'{url}/lock'
  with bucket_lock.hold(lock, 'process 1 on a') as held:
    files(url).pipe(lock, b'{"owner": "process 2 on b", "time": "now"}')
    held._thread.join(10)
    with pytest.raises(bucket_lock.LockedError, match='process 2 on b'):
      held.check()
  # It is the other's: it is not removed.
  assert b'process 2 on b' in files(url).cat(lock)
