"""Checkpoints in a bucket, where nothing can be renamed or is a directory."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.checkpoints import checkpoint_manifest, checkpointing
from score_jax.io import buckets
from tests.support import object_server

pytestmark = [
  object_server.needs_packages,
  pytest.mark.slow,
  # Of packages that are not score_jax's.
  pytest.mark.filterwarnings('default'),
]
TARGET = {
  'params': {'w': jax.ShapeDtypeStruct((3,), jnp.float32)},
  'moments': jax.ShapeDtypeStruct((), jnp.float32),
}


@pytest.fixture(scope='module', autouse=True)
def server():
  with object_server.serve() as environment:
    yield environment


@pytest.fixture
def url(request):
  return f'{object_server.URL}/{request.function.__name__}'


def save(url, scores):
  """Saves steps 1, 2, ... with these scores; the params are their number."""
  with checkpointing.Checkpoints(url, is_async=True) as checkpoints:
    for step, score in enumerate(scores, start=1):
      state = {
        'params': {'w': jnp.full(3, step, jnp.float32)},
        'moments': jnp.float32(step),
      }
      checkpoints.save(step, state, score=score)
      # A step that is being written counts.
      assert step in checkpoints.steps()


def names(url):
  return {name.split('/')[0] for name in buckets.listing(url)}


def test_they_are_pruned_and_restored(url):
  save(url, [1.0, 3.0, 2.0, 1.0])
  assert names(url) == {'2', '4'}
  with checkpointing.Checkpoints(url, read_only=True) as checkpoints:
    assert checkpoints.steps() == [2, 4]
    latest = checkpoints.restore(TARGET)
    best = checkpoints.restore(
      {'params': TARGET['params']}, 'best', partial=True
    )
  assert (latest.step, best.step) == (4, 2)
  np.testing.assert_array_equal(latest.state['params']['w'], [4, 4, 4])
  np.testing.assert_array_equal(best.state['params']['w'], [2, 2, 2])


def test_what_is_unfinished_is_removed(url):
  save(url, [1.0])
  files = buckets.filesystem(url)
  # A step as a killed save leaves it: all but the file that is written last.
  for name in buckets.listing(url):
    if name.startswith('1/') and name != '1/commit_success.txt':
      files.cp_file(f'{url}/{name}', f'{url}/2/{name[2:]}')
  with checkpointing.Checkpoints(url) as checkpoints:
    assert checkpoints.steps() == [1]
    assert names(url) == {'1'}
    assert checkpoints.restore(TARGET).step == 1


def test_a_damaged_one_is_set_aside(url):
  save(url, [1.0])
  files, path = buckets.filesystem(url), f'{url}/1/manifest/metadata'
  manifest = json.loads(files.cat(path))
  manifest['leaves']['moments']['checksum'] = '0' * 16
  files.pipe(path, json.dumps(manifest).encode())
  with (
    checkpointing.Checkpoints(url) as checkpoints,
    pytest.raises(checkpoint_manifest.DamagedError, match='no intact'),
  ):
    checkpoints.restore(TARGET)
  assert names(url) == {'1.damaged-1'}


def test_a_score_may_come_after_its_checkpoint(url):
  save(url, [1.0, None])
  with checkpointing.Checkpoints(url) as checkpoints:
    checkpoints.set_score(2, 3.0)
    assert checkpoints.restore(TARGET, 'best').step == 2
  assert not [name for name in buckets.listing(url) if 'tmp' in name]


def test_where_nothing_was_saved_there_is_nothing(url):
  with checkpointing.Checkpoints(url, read_only=True) as checkpoints:
    assert checkpoints.steps() == []
    assert checkpoints.restore(TARGET) is None
