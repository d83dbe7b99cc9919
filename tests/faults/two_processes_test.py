"""One of two processes dies at every file operation; both end with a line.

Each has eight devices, over which arrays are split. The same commands go on
from the newest checkpoint and end with the same bytes.
"""

import signal

import pytest

from score_jax import heartbeat
from tests.support import small_stages

# Some half hour on two cores for the first process, minutes for the second.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize('victim', [0, 1])
def test_one_of_two_is_killed_at_every_file_operation(
  tmp_path, victim, record_property
):
  runs = small_stages.Runs(tmp_path, devices=16, processes=2)
  runs.go_to_the_end()
  operations = runs.operations(victim)
  expected = runs.checkpoints(), runs.outcome()
  late = 0
  for at in range(1, len(operations) + 1):
    where = at, operations[at - 1]
    runs.begin_again()
    codes = runs.go(at, index=victim)
    if not any(codes):
      # Which of the two makes a directory is open.
      assert len(runs.operations(victim)) < at, where
      continue
    assert codes[victim] == -signal.SIGKILL, where
    if codes[1 - victim]:
      assert codes[1 - victim] == heartbeat.EXIT_CODE, where
      *_, last = runs.said(1 - victim).splitlines()
      assert last.startswith(f'error: process {victim} ('), (where, last)
    else:
      # It had nothing left to wait for.
      late += 1
    runs.go_to_the_end()
    assert (runs.checkpoints(), runs.outcome()) == expected, where
  record_property('tries', len(operations))
  record_property('the other had ended', late)
