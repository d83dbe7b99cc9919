"""A run whose updates stay not finite: stopped, replayed, and gone on from.

The message names both commands; they are what is run here.
"""

import json
import re
import subprocess
import sys

import pytest

from experiments import replay
from tests.support import small_run

# One and a half minutes.
pytestmark = pytest.mark.slow


def test_replayed_elsewhere_and_gone_on_from(
  finished, tmp_path, capsys, compiled
):
  # The first update takes the weights to where logits overflow, and no
  # checkpoint has them.
  more = ('--steps-stage1=8', '--checkpoint-every=8')
  flags = ('--learning-rate=1e38', *more)
  path = small_run.begin_from_base(finished, tmp_path / 'run', *flags)
  assert small_run.main(path, *flags) == 1
  said = capsys.readouterr().err
  assert said.startswith('error: 5 updates in a row had a loss or gradient')
  assert 'Traceback' not in said
  moved = path.rename(tmp_path / 'elsewhere')
  [command] = re.findall(r'python -m (experiments.replay .*) makes', said)
  command = command.replace(str(path), str(moved))
  # On another number of devices, in a process of its own.
  child = subprocess.run(
    [sys.executable, '-m', *command.split()],
    env=compiled | {'XLA_FLAGS': ''},
    cwd=small_run.ROOT,
    capture_output=True,
    text=True,
  )
  assert child.returncode == 0, child.stderr
  assert 'stage1: the update is not finite: ' in child.stdout
  assert 'loss nan' in child.stdout
  assert 'sequence 0 is not, alone: ' in child.stdout
  # What is finite here is said to be.
  assert replay.main([f'--run-dir={moved}', '--stage=stage2']) == 2
  assert 'was not stopped' in capsys.readouterr().err
  # A run with another step size goes on.
  [flag] = re.findall(r'add (--fork-from=\S+)', said)
  fork = tmp_path / 'fork'
  flag = flag.replace(str(path), str(moved))
  lower = ('--learning-rate=1e-4', *more, flag)
  assert small_run.main(fork, *lower) == 0
  assert small_run.metrics(fork, 'stage1')[-1]['skipped'] == 0
  record = json.loads((fork / 'forked_from.json').read_text())
  assert record == {
    'run': str(moved), 'changed': {'--learning-rate': [1e38, 1e-4]}
  }  # fmt: skip
