"""README's two commands on a fresh Debian 13: Python 3.13, no root, and uv.

A gigabyte of downloads, and about eight minutes on two quiet cores.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(os.geteuid() != 0, reason='not root'),
  pytest.mark.skipif(not shutil.which('debootstrap'), reason='no debootstrap'),
]

SCRIPT = pathlib.Path(__file__).with_name('debian13.sh')
HOME = pathlib.Path('home', 'user')


def on(machine, command):
  return subprocess.run(
    ['bash', str(SCRIPT), str(machine), 'bash', '-c', command],
    capture_output=True, text=True,
  )  # fmt: skip


@pytest.fixture(scope='module')
def machine(tmp_path_factory):
  root = tmp_path_factory.mktemp('debian13') / 'root'
  made = on(root, 'python3 --version')
  assert made.stdout.startswith('Python 3.13'), made.stderr
  yield root
  shutil.rmtree(root)


def test_quickstart_makes_a_policy_that_corrects_itself(machine):
  started = on(machine, 'bash launch/quickstart.sh --run-dir=run')
  assert started.returncode == 0, started.stderr
  assert 'Stage II' in started.stdout
  results = json.loads(
    (machine / HOME / 'score_jax' / 'run' / 'results.json').read_text()
  )
  corrects = results['stage2']
  assert corrects['acc_t2'] > corrects['acc_t1'] + 0.1
  assert corrects['acc_t2'] > results['base']['acc_t2'] + 0.2


def test_check_passes(machine):
  # Lints, and of the tests, sandboxes and some of each floor.
  checked = on(
    machine,
    'bash launch/check.sh tests/architecture_test.py tests/algorithm'
    ' tests/grading tests/checkpoints tests/rollout/episode_test.py',
  )
  assert checked.returncode == 0, checked.stdout + checked.stderr
  assert ' passed' in checked.stdout.splitlines()[-1]


def test_without_ensurepip_uv_makes_the_environment(machine):
  debian = ['chroot', str(machine)]
  subprocess.run(
    [*debian, 'dpkg', '--purge', 'python3-venv', 'python3.13-venv'], check=True
  )
  shutil.rmtree(machine / HOME / 'score_jax' / '.venv', ignore_errors=True)
  without = on(machine, 'bash launch/quickstart.sh --dry-run')
  assert without.returncode == 1
  assert 'install uv' in without.stderr
  subprocess.run(
    [sys.executable, '-m', 'pip', 'install', '--quiet', '--target',
     str(machine / 'opt' / 'uv'), 'uv'],
    check=True,
  )  # fmt: skip
  (machine / 'usr' / 'local' / 'bin' / 'uv').symlink_to('/opt/uv/bin/uv')
  given = on(machine, 'bash launch/quickstart.sh --dry-run')
  assert given.returncode == 0, given.stderr
  assert '--steps-stage2' in given.stdout
