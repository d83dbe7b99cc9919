"""The shell scripts, as far as reading them tells."""

import configparser
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
  script = 'echo "${MPLBACKEND-none}"'
  assert _in_environment(script, MPLBACKEND='module://inline') == 'none\n'


def test_extras_are_those_of_setup_cfg():
  """Read by sed, and installed with the pins; see accelerators_test.py."""
  setup = configparser.ConfigParser()
  setup.read(launch_files.LAUNCH.parent / 'setup.cfg')
  for extra in ('hub', 'gs'):
    packages = setup['options.extras_require'][extra].split()
    assert packages
    script = (
      f'install_package() {{ printf "%s " "$@"; }}; install_extra {extra}'
    )
    assert _in_environment(script).split() == [extra, *packages]


def _in_environment(script: str, **variables: str) -> str:
  """What a script prints that has sourced environment.sh."""
  found = subprocess.run(
    ['bash', '-euc', f'source launch/environment.sh; {script}'],
    cwd=launch_files.LAUNCH.parent,
    env=os.environ | variables,
    capture_output=True,
    text=True,
    check=True,
  )
  return found.stdout
