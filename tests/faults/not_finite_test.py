"""A run whose updates stay not finite: stopped, replayed, and gone on from.

The message names both commands; they are what is run here.
"""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from rich import console as rich_console

from experiments import methods, replay
from experiments.run import building, policies, run_directory
from experiments.stages import not_finite
from tests.support import small_run

# Two minutes.
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
  assert 'it is the policy itself' in ' '.join(child.stdout.split())
  assert 'is not, alone' not in child.stdout
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
  capsys.readouterr()
  for bad in ([3], range(1, 8)):
    poison(moved, bad)
    assert replay.main([f'--run-dir={moved}', '--stage=stage1']) == 0
    said = ' '.join(capsys.readouterr().out.split())
    # The loss is finite: what is not is masked. 0 times NaN is NaN.
    assert 'grad_norm nan' in said
    assert 'loss nan' not in said
    named = [int(each) for each in re.findall(r'sequence (\d+) is not', said)]
    assert len(named) == min(len(bad), 4)
    assert set(named) <= set(bad)
    assert ('and others may be' in said) == (len(bad) > 4)


def poison(path, bad):
  """Keeps the update once more: of the base policy, with bad sequences."""
  directory = run_directory.RunDirectory(path)
  run = building.reopen(directory, rich_console.Console(), on_one_device=True)
  base = policies.stage_policy(run, methods.BASE)
  _, (batch, loss_mask, coefficients) = not_finite.restore(run, 'stage1', base)
  advantages = np.zeros_like(batch.advantages)
  advantages[list(bad)] = np.nan
  inputs = batch.replace(advantages=advantages), loss_mask.copy(), coefficients
  inputs[1][list(bad)] = False
  not_finite.keep(run, 'stage1', 5, base, inputs)
