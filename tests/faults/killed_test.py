"""Killed at every file operation: the same command ends with the same bytes.

The file operations of two stages, and of resuming them, are counted: saving,
pruning, changing stages, logs, digests and results. A run dies before each one
of them, and goes on from its newest checkpoint.
"""

import shutil
import signal

import pytest

from tests.support import file_operations, small_stages

# For each number of devices some 5 minutes on two cores.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize('devices', [1, 8])
def test_killed_at_every_file_operation(tmp_path, devices, record_property):
  runs = small_stages.Runs(tmp_path, devices)
  operations = runs.go_to_the_end()
  expected = runs.checkpoints(), runs.outcome()
  assert expected[0] == ['stage1/checkpoints/4', 'stage2/checkpoints/2']
  assert len(operations) > 150
  for at in range(1, len(operations) + 1):
    runs.begin_again()
    if not _is_killed(runs, at):
      continue
    runs.go_to_the_end()
    found = runs.checkpoints(), runs.outcome()
    assert found == expected, (at, operations[at - 1])
  record_property('tries', len(operations))


def test_signalled_at_every_file_operation(tmp_path, record_property):
  runs = small_stages.Runs(tmp_path)
  operations = runs.go_to_the_end()
  expected = runs.checkpoints(), runs.outcome()
  saved = 0
  for at in range(1, len(operations) + 1):
    runs.begin_again()
    [code] = runs.go(at, file_operations.terminate)
    # At the very end nothing is left to stop, and before the handlers are
    # there, nothing to save.
    assert code in (0, 128 + signal.SIGTERM, -signal.SIGTERM), at
    saved += code == 128 + signal.SIGTERM
    runs.go_to_the_end()
    found = runs.checkpoints(), runs.outcome()
    assert found == expected, (at, operations[at - 1])
  record_property('tries', len(operations))
  record_property('stopped in order', saved)


@pytest.mark.parametrize(
  ('devices', 'first'),
  [(1, '.removing-2/state'), (8, '4.orbax-checkpoint-tmp/state')],
)
def test_killed_at_every_file_operation_of_a_resume(
  tmp_path, devices, first, record_property
):
  runs = small_stages.Runs(tmp_path, devices)
  operations = runs.go_to_the_end()
  expected = runs.checkpoints(), runs.outcome()
  # Half a checkpoint is left: of a prune, or of a save.
  first = next(i for i, each in enumerate(operations) if first in each) + 2
  runs.begin_again()
  assert runs.go(first) == [-signal.SIGKILL]
  killed = shutil.copytree(runs.path, tmp_path / 'killed')
  resumed = runs.go_to_the_end()
  assert (runs.checkpoints(), runs.outcome()) == expected
  for at in range(1, len(resumed) + 1):
    runs.begin_again(killed)
    if not _is_killed(runs, at):
      continue
    runs.go_to_the_end()
    found = runs.checkpoints(), runs.outcome()
    assert found == expected, (at, resumed[at - 1])
  record_property('tries', len(resumed))


def _is_killed(runs, at):
  """Whether an operation was reached, and killed the run.

  The last one may not be: threads of Orbax make one more or less.
  """
  [code] = runs.go(at)
  if code == 0:
    assert len(runs.operations()) < at
    return False
  assert code == -signal.SIGKILL, at
  return True
