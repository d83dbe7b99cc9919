"""The shell scripts, as far as reading them tells."""

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
