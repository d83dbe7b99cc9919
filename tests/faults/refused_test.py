"""A disk that refuses a write: a line, and the same command ends the same.

At every file operation of two stages, one after the other: the operation alone
fails, once, or the file system is full from there on, to the last byte.
"""

import errno
import functools
import subprocess

import pytest

from tests.support import file_operations, small_stages


@pytest.fixture
def small_disk(tmp_path):
  """A file system of 20 MB."""
  place = tmp_path / 'disk'
  place.mkdir()
  mounted = subprocess.run(
    ['mount', '-t', 'tmpfs', '-o', 'size=20m', 'tmpfs', place],
    capture_output=True,
    text=True,
  )
  if mounted.returncode:
    pytest.skip(f'cannot mount a file system: {mounted.stderr.strip()}')
  yield place
  subprocess.run(['umount', '--lazy', place], check=True)


def refuse_everywhere(runs, fault, record_property):
  """Runs to which a fault happens at each operation, and then goes away."""
  operations = runs.go_to_the_end()
  expected = runs.checkpoints(), runs.outcome()
  ballast = runs.path.parent / file_operations.BALLAST
  went_on = 0
  for at in range(1, len(operations) + 1):
    where = at, operations[at - 1]
    runs.begin_again()
    [code] = runs.go(at, fault)
    assert 'Traceback' not in runs.said(), (where, runs.said())
    assert code in (0, 2), (where, runs.said())
    if code:
      last = runs.said().splitlines()[-1]
      # The first operation makes the run's directory.
      expected_start = 'error: the disk refuses a write ('
      if at == 1:
        expected_start = f'error: --run-dir={runs.path}: '
      assert last.startswith(expected_start), (where, last)
    else:
      went_on += 1
    ballast.unlink(missing_ok=True)
    runs.go_to_the_end()
    assert set(runs.checkpoints()) >= set(expected[0]), where
    assert runs.outcome() == expected[1], where
  record_property('tries', len(operations))
  record_property('went on', went_on)


def test_a_refused_save_is_said_at_once_and_made_again(tmp_path):
  runs = small_stages.Runs(tmp_path)
  operations = runs.go_to_the_end()
  expected = runs.checkpoints(), runs.outcome()
  [at] = [
    number
    for number, each in enumerate(operations, start=1)
    if each.endswith('stage1/checkpoints/2.orbax-checkpoint-tmp')
    and each.startswith('os.mkdir')
  ]
  runs.begin_again()
  fault = functools.partial(file_operations.refuse, errno.ENOSPC)
  assert runs.go(at, fault) == [2]
  *_, last = runs.said().splitlines()
  assert last == (
    'error: the disk refuses a write ([Errno 28] No space left on device): '
    'make room, and the same command goes on; what was saved before is as it '
    'was'
  )
  assert 'Traceback' not in runs.said()
  assert 'stage1  2/4' in runs.said()
  assert 'stage1  3/4' not in runs.said()
  runs.go_to_the_end()
  assert (runs.checkpoints(), runs.outcome()) == expected


# Some 10 minutes each on two cores.
@pytest.mark.slow
@pytest.mark.parametrize('number', [errno.EIO, errno.ENOSPC])
def test_refused_once_at_every_file_operation(
  tmp_path, number, record_property
):
  fault = functools.partial(file_operations.refuse, number)
  refuse_everywhere(small_stages.Runs(tmp_path), fault, record_property)


@pytest.mark.slow
def test_a_disk_that_is_full_from_every_file_operation_on(
  tmp_path, small_disk, record_property
):
  fault = functools.partial(file_operations.fill, small_disk)
  runs = small_stages.Runs(tmp_path, place=small_disk)
  refuse_everywhere(runs, fault, record_property)
