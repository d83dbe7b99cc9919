"""Killed at every file operation: the same command ends with the same bytes.

The file operations of two stages, and of resuming them, are counted: saving,
pruning, changing stages, logs, digests and results. A run dies before each one
of them, and goes on.
"""

import pathlib
import shutil
import signal

import pytest

from tests.faults import damage_test
from tests.support import file_operations, small_stages

# For each number of devices some 5 minutes on two cores.
pytestmark = pytest.mark.slow


class Runs:
  """Runs in one place, one after the other: paths are part of their bytes."""

  def __init__(self, folder: pathlib.Path, devices: int):
    self.path = folder / 'run'
    self._files = folder / 'listed', folder / 'said'
    self._devices = devices

  def go(self, at: int | None = None) -> int:
    """Starts the run or goes on with it; the exit code."""
    return file_operations.run(
      small_stages.main, self.path, self._devices, at, *self._files
    )

  def go_to_the_end(self) -> list[str]:
    """Goes on; the operations that this took."""
    assert self.go() == 0, self._files[1].read_text()
    said = self._files[1].read_text()
    assert 'damaged' not in said
    assert 'Traceback' not in said
    return self._files[0].read_text().splitlines()

  def result(self):
    """What is left behind: bytes by path, and names of checkpoints."""
    folders = self.path.glob('*/checkpoints/*')
    names = sorted(str(path.relative_to(self.path)) for path in folders)
    return names, damage_test.outcome(self.path)


@pytest.mark.parametrize('devices', [1, 8])
def test_killed_at_every_file_operation(tmp_path, devices):
  runs = Runs(tmp_path, devices)
  operations = runs.go_to_the_end()
  expected = runs.result()
  assert expected[0] == [
    f'{stage}/checkpoints/{step}'
    for stage, step in (('stage1', 4), ('stage1', 6), ('stage2', 2))
  ]
  assert len(operations) > 150
  for at in range(1, len(operations) + 1):
    shutil.rmtree(runs.path)
    assert runs.go(at) == -signal.SIGKILL, at
    runs.go_to_the_end()
    assert runs.result() == expected, (at, operations[at - 1])


@pytest.mark.parametrize(
  ('devices', 'first'),
  [(1, '.removing-2/state'), (8, '6.orbax-checkpoint-tmp/state')],
)
def test_killed_at_every_file_operation_of_a_resume(tmp_path, devices, first):
  runs = Runs(tmp_path, devices)
  operations = runs.go_to_the_end()
  expected = runs.result()
  # Half a checkpoint is left: of a prune, or of a save.
  first = next(i for i, each in enumerate(operations) if first in each) + 2
  shutil.rmtree(runs.path)
  assert runs.go(first) == -signal.SIGKILL
  killed = shutil.copytree(runs.path, tmp_path / 'killed')
  resumed = runs.go_to_the_end()
  assert runs.result() == expected
  for at in range(1, len(resumed) + 1):
    shutil.rmtree(runs.path)
    shutil.copytree(killed, runs.path)
    assert runs.go(at) == -signal.SIGKILL, at
    runs.go_to_the_end()
    assert runs.result() == expected, (at, resumed[at - 1])
