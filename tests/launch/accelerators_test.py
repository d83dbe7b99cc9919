"""What with.sh installs for accelerators, and what it says without one."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _reaches_the_index() -> bool:
  asked = [sys.executable, '-m', 'pip', 'index', 'versions', 'libtpu']
  environment = os.environ | {'PIP_RETRIES': '0', 'PIP_TIMEOUT': '10'}
  return not subprocess.run(
    asked, env=environment, capture_output=True
  ).returncode


@pytest.mark.parametrize(
  ('command', 'package'),
  [
    ('install_accelerator tpu', 'libtpu'),
    pytest.param('install_extra hub', 'kagglehub', marks=pytest.mark.slow),
    pytest.param('install_extra gs', 'gcsfs', marks=pytest.mark.slow),
  ],
)
def test_packages_go_with_the_pins(command, package, tmp_path):
  if not _reaches_the_index():
    pytest.skip('no pip, or no package index is reached')
  # The script's own command, that only resolves.
  script = (
    f'source launch/environment.sh; python={sys.executable} venv={tmp_path}; '
    f'{command}'
  )
  resolved = subprocess.run(
    ['bash', '-euc', script], cwd=ROOT, env=os.environ | {'PIP_DRY_RUN': '1'},
    capture_output=True, text=True,
  )  # fmt: skip
  assert resolved.returncode == 0, resolved.stderr
  assert f'{package}-' in (tmp_path / 'install.log').read_text()


@pytest.fixture
def clone(tmp_path):
  """The last commit; what is installed there is removed: CUDA takes 6 GB."""
  subprocess.run(
    ['git', 'clone', '--quiet', f'file://{ROOT}', tmp_path / 'clone'],
    check=True,
  )
  yield tmp_path / 'clone'
  shutil.rmtree(tmp_path / 'clone')


# A minute of computing each; CUDA's 3.4 GB took 15 minutes on a busy machine.
@pytest.mark.slow
@pytest.mark.parametrize(
  ('accelerator', 'package', 'devices'),
  [
    ('tpu', 'libtpu', '/dev/accel* or /dev/vfio'),
    ('cuda', 'jax_cuda12_plugin', 'nvidia-smi'),
  ],
)
def test_without_the_device_programs_say_so(
  clone, accelerator, package, devices
):
  if shutil.which('nvidia-smi') or list(pathlib.Path('/dev').glob('accel*')):
    pytest.skip('this machine has an accelerator')
  environment = {
    name: value
    for name, value in os.environ.items()
    if name not in ('JAX_PLATFORMS', 'XLA_FLAGS')
  }

  def run(*arguments):
    return subprocess.run(
      ['bash', 'launch/with.sh', accelerator, *arguments], cwd=clone,
      env=environment | {'PYTHON': sys.executable},
      capture_output=True, text=True,
    )  # fmt: skip

  doctor = run('experiments.doctor')
  assert doctor.returncode == 3, doctor.stderr
  subprocess.run(
    [clone / '.venv' / 'bin' / 'python', '-c', f'import {package}'],
    check=True,
  )
  *_, last = doctor.stdout.splitlines()
  assert devices in last
  assert 'JAX_PLATFORMS=cpu' in last
  # Nor does a run go on with the CPU, which nobody asked for.
  train = run('experiments.train', '--run-dir=run')
  assert train.returncode == 2
  assert train.stderr.splitlines()[-1].startswith('error: no device')
