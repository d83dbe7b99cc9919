"""The shell scripts, as far as reading them tells."""

import os
import shutil
import subprocess

import pytest

from tests.support import launch_files

_SCRIPTS = sorted(launch_files.LAUNCH.rglob('*.sh'))


@pytest.mark.parametrize('script', _SCRIPTS, ids=launch_files.name)
def test_scripts_are_bash(script):
  subprocess.run(['bash', '-n', str(script)], check=True)


@pytest.mark.skipif(not shutil.which('shellcheck'), reason='no shellcheck')
def test_shellcheck_has_no_complaint():
  subprocess.run(
    ['shellcheck', '--external-sources', *map(str, _SCRIPTS)],
    cwd=launch_files.LAUNCH.parent,
    check=True,
  )


def test_a_notebooks_settings_stay_there():
  """Of a kernel's plots: matplotlib ends where it does not know a backend."""
  script = 'source launch/environment.sh; echo "${MPLBACKEND-none}"'
  found = subprocess.run(
    ['bash', '-c', script],
    cwd=launch_files.LAUNCH.parent,
    env=os.environ | {'MPLBACKEND': 'module://matplotlib_inline'},
    capture_output=True,
    text=True,
    check=True,
  )
  assert found.stdout == 'none\n'
