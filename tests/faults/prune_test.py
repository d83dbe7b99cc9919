"""A checkpoint that is being removed is whole, or none, at every moment."""

import errno
import itertools
import os
import pathlib
import shutil
import signal

import numpy as np
import pytest

from score_jax.checkpoints import checkpoint_store, checkpointing
from tests.support import file_operations, small_stages


def make_state(step):
  return {'w': np.random.default_rng(step).normal(size=(8, 8)).astype('f')}


def prune(directory, at, listed):
  """In a child: removes step 1, but for the operation of number `at`."""
  store = checkpoint_store.Store(directory, is_async=False, read_only=False)
  operations = file_operations.watch(directory, at)
  store.delete(1)
  listed.write_text('\n'.join(operations()))


@pytest.fixture(scope='module')
def full(tmp_path_factory):
  """Steps 1 and 2; the first would be chosen as the best."""
  directory = tmp_path_factory.mktemp('full') / 'checkpoints'
  with checkpointing.Checkpoints(directory) as store:
    store.save(1, make_state(1), score=2.0)
    store.save(2, make_state(2), score=1.0)
  return directory


@pytest.fixture(scope='module')
def operations(full, tmp_path_factory):
  """The operations of a removal that nothing disturbs."""
  copied = tmp_path_factory.mktemp('undisturbed')
  shutil.copytree(full, copied / 'checkpoints')
  listed = copied / 'listed'
  code = file_operations.run(prune, copied / 'checkpoints', None, listed)
  assert code == 0
  assert contents(copied / 'checkpoints') == ['2']
  lines = listed.read_text().splitlines()
  # Orbax has no other name for a step than its number.
  assert lines[0].startswith('os.rename')
  assert len(lines) > 10
  return lines


def contents(directory: pathlib.Path) -> list[str]:
  return sorted(path.name for path in directory.iterdir())


def assert_goes_on(directory, caplog):
  """What is there is whole, and the next save leaves what it always does."""
  with checkpointing.Checkpoints(directory, keep=1) as store:
    oldest, *_ = store.steps()
    best = store.restore(make_state(0), 'best')
    assert best.step == oldest
    assert_same(best.state, make_state(oldest))
    store.save(3, make_state(3), score=3.0)
  assert contents(directory) == ['3']
  assert 'damaged' not in caplog.text


def assert_same(state, expected):
  np.testing.assert_array_equal(state['w'], expected['w'])


def test_killed_at_every_operation_of_a_prune(
  full, operations, tmp_path, caplog
):
  for at in range(1, len(operations) + 1):
    copied = shutil.copytree(full, tmp_path / str(at))
    code = file_operations.run(prune, copied, at, tmp_path / 'listed')
    assert code == -signal.SIGKILL
    steps = {name for name in contents(copied) if name.isdigit()}
    assert steps == ({'1', '2'} if at == 1 else {'2'})
    assert_goes_on(copied, caplog)


def test_refused_at_every_operation_of_a_prune(
  full, operations, tmp_path, caplog, monkeypatch
):
  for at in range(1, len(operations) + 1):
    copied = shutil.copytree(full, tmp_path / str(at))
    with checkpointing.Checkpoints(copied, keep=1) as checkpoints:
      with monkeypatch.context() as patch:
        numbers = itertools.count(1)
        for name in ('rename', 'unlink', 'rmdir'):
          patch.setattr(os, name, refusing(getattr(os, name), numbers, at))
        # Nothing that matters is lost: training goes on.
        checkpoints._store.delete(1)
      assert 'cannot remove' in caplog.text
    caplog.clear()
    assert_goes_on(copied, caplog)


# 10 seconds on one core.
@pytest.mark.slow
def test_killed_between_the_last_save_and_the_end_of_a_stage(tmp_path):
  runs = small_stages.Runs(tmp_path)
  operations = runs.go_to_the_end()
  expected = runs.checkpoints()
  marks_stage2 = [
    'stage2/.finished.json' in operation for operation in operations
  ].index(True)
  runs.begin_again()
  assert runs.go(marks_stage2 + 1) == [-signal.SIGKILL]
  # The removal of what stage 1 no longer needs was not over by then.
  left = runs.path / 'stage1' / 'checkpoints' / '.removing-state'
  left.mkdir()
  (left / 'array').write_bytes(b'1')
  runs.go_to_the_end()
  assert runs.checkpoints() == expected


def refusing(call, numbers, at):
  def refuse(*arguments, **options):
    if next(numbers) == at:
      raise OSError(errno.EIO, 'refused by the test')
    return call(*arguments, **options)

  return refuse
