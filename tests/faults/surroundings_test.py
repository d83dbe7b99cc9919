"""Machines on which little is as usual; runs that moved or are read-only."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

from experiments import report
from experiments.run import run_directory
from tests.support import small_run

READERS = {
  'evaluate': ('--run-dir={run}',),
  'chat': ('--run-dir={run}',),
  'report': ('{run}', '--output={out}'),
  'convert': ('--from={run}', '--to={out}'),
}


def start(program, *arguments, environment, limit='hard', **options):
  return subprocess.run(
    ['bash', '-c', f'ulimit -Sn {limit}; exec "$@"', 'bash', sys.executable,
     '-m', f'experiments.{program}', *map(str, arguments)],
    cwd=small_run.ROOT, env=environment, capture_output=True, **options,
  )  # fmt: skip


# A minute.
@pytest.mark.slow
def test_a_poor_machine_makes_the_same_run(finished, tmp_path, compiled):
  """No home, no writable temporary directory, few files, an old locale.

  The run's path has spaces, and its files are from the future: the clock has
  jumped back.
  """
  path = tmp_path / 'ein Lauf'
  small_run.copy(finished, path, 'stage2')
  later = time.time() + 10**6
  for file in path.rglob('*'):
    os.utime(file, (later, later))
  poor = {
    name: value
    for name, value in compiled.items()
    if name.startswith(('JAX', 'XLA')) or name == 'PATH'
  }
  poor |= {'LC_ALL': 'POSIX', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0',
           'TMPDIR': '/proc/none', 'HOME': '/proc/none'}  # fmt: skip
  child = start(
    'train', *small_run.FLAGS, f'--run-dir={path}', environment=poor,
    limit=128, stdin=subprocess.DEVNULL,
  )  # fmt: skip
  assert child.returncode == 0, child.stderr.decode()
  small_run.assert_same(finished, path)
  assert small_run.results(path) == small_run.results(finished)


def test_a_path_that_the_locale_cannot_name_damages_nothing(tmp_path):
  # As Python reads the path of another alphabet in an old locale.
  path = tmp_path / os.fsencode('бег').decode('ascii', 'surrogateescape')
  directory = run_directory.RunDirectory(path)
  with (
    pytest.raises(run_directory.RunError, match='PYTHONUTF8=1'),
    directory.lock(),
  ):
    pass
  with pytest.raises(run_directory.RunError, match='PYTHONUTF8=1'):
    run_directory.RunDirectory.existing(path)
  assert not list(tmp_path.iterdir())


def contents(path):
  return {
    file.relative_to(path): file.read_bytes()
    for file in path.rglob('*')
    if file.is_file()
  }


@contextlib.contextmanager
def read_only(path):
  mounted = subprocess.run(
    ['mount', '--bind', '-o', 'ro', path, path], capture_output=True, text=True
  )
  if mounted.returncode:
    pytest.skip(f'cannot make it read-only: {mounted.stderr.strip()}')
  try:
    with pytest.raises(OSError, match='Read-only'):
      (path / 'new').touch()
    yield
  finally:
    subprocess.run(['umount', '--lazy', path], check=True)


# Half a minute for each program.
@pytest.mark.slow
@pytest.mark.parametrize('program', READERS)
def test_a_moved_run_that_may_not_be_written_is_read(
  finished, tmp_path, compiled, program
):
  run = shutil.copytree(finished, tmp_path / 'ein Lauf, бег 走る')
  arguments = [
    each.format(run=run, out=tmp_path / 'out') for each in READERS[program]
  ]
  with read_only(run):
    child = start(program, *arguments, environment=compiled, input=b'3+4\n')
  said = child.stderr.decode()
  assert child.returncode == 0, said
  assert 'Traceback' not in said
  if program == 'evaluate':
    assert child.stdout.count(b'the same numbers as in results.json') == 3
  assert contents(run) == contents(finished)


def test_a_report_that_may_not_be_written_says_where_else(
  finished, tmp_path, capsys
):
  run = shutil.copytree(finished, tmp_path / 'run')
  with read_only(run):
    assert report.main([str(run)]) == 2
  said = capsys.readouterr().err
  assert said.startswith('error: [Errno 30] Read-only file system: ')
  assert said.endswith(f'; the report goes to {run}, or to --output=DIR\n')
  assert said.count('\n') == 1


def test_a_run_whose_directory_goes_away_says_so(
  finished, tmp_path, capsys, monkeypatch
):
  path = small_run.copy(finished, tmp_path / 'run')
  write = pathlib.Path.replace

  def remove_and_write(source, target):
    shutil.rmtree(path, ignore_errors=True)
    return write(source, target)

  # Evaluations are written anew, as there are no results.
  monkeypatch.setattr(pathlib.Path, 'replace', remove_and_write)
  assert small_run.main(path) == 2
  said = capsys.readouterr().err
  assert said.startswith(f'error: {path} was removed while the run wrote to it')
  assert said.count('\n') == 1
