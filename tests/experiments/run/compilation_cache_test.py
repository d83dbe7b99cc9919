"""Where compiled programs are kept, and that they are the ones compiled."""

import os
import subprocess
import sys

import jax
import pytest

from experiments.run import compilation_cache
from tests.support import small_run


@pytest.fixture
def directory(monkeypatch):
  """The directory that jax was told, as text; None before and afterwards."""
  before = {
    name: getattr(jax.config, name)
    for name in (
      'jax_compilation_cache_dir',
      'jax_persistent_cache_min_compile_time_secs',
    )
  }
  jax.config.update('jax_compilation_cache_dir', None)
  yield lambda: jax.config.jax_compilation_cache_dir
  for name, value in before.items():
    jax.config.update(name, value)


def test_a_directory_for_each_kind_of_processor(
  directory, tmp_path, monkeypatch
):
  compilation_cache.use(str(tmp_path), 'run')
  assert directory() == f'{tmp_path}/{compilation_cache._processor()}'
  here = compilation_cache._processor()
  monkeypatch.setattr(compilation_cache.platform, 'machine', lambda: 'other')
  assert compilation_cache._processor() != here
  compilation_cache.use('gs://bucket/compiled', 'run')
  assert directory().startswith('gs://bucket/compiled/other-')


def test_by_itself_in_the_place_of_the_platform(
  directory, tmp_path, monkeypatch
):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  compilation_cache.use('auto', 'run')
  own = tmp_path / 'score_jax' / 'compiled'
  assert directory().startswith(f'{own}/')
  # Whoever can write to it can run code.
  assert own.stat().st_mode & 0o777 == 0o700


def test_several_processes_share_one(directory, monkeypatch):
  monkeypatch.setattr(compilation_cache.distributed, 'count', lambda: 2)
  compilation_cache.use('auto', 'run/compiled')
  assert directory().startswith('run/compiled/')


def test_what_the_user_said_is_not_changed(directory, tmp_path):
  jax.config.update('jax_compilation_cache_dir', str(tmp_path))
  compilation_cache.use('auto', 'run')
  assert directory() == str(tmp_path)
  compilation_cache.use('none', 'run')
  assert directory() is None


@pytest.mark.slow
def test_a_run_that_reads_its_programs_is_the_run_that_compiled(tmp_path):
  """And one whose programs are damaged compiles them again."""
  cache = tmp_path / 'cache'

  def run(name):
    path = tmp_path / name
    child = subprocess.run(
      [
        sys.executable, '-m', 'experiments.train', *small_run.FLAGS,
        f'--run-dir={path}', f'--compilation-cache={cache}',
      ],
      cwd=small_run.ROOT, capture_output=True, text=True,
      env=os.environ | {'JAX_ENABLE_COMPILATION_CACHE': 'true'},
    )  # fmt: skip
    assert child.returncode == 0, child.stderr[-2000:]
    return path, child.stderr

  compiled, _ = run('compiled')
  programs = [p for p in cache.rglob('*') if p.name.endswith('-cache')]
  assert len(programs) > 3
  # More of them now: on a busy machine more programs take long enough to keep.
  read, said = run('read')
  assert 'Error reading' not in said
  for program in programs:
    program.write_bytes(program.read_bytes()[:100])
  damaged, said = run('damaged')
  assert said.count('Error reading persistent compilation cache') > 3
  for path in (read, damaged):
    small_run.assert_same(compiled, path)
    assert small_run.results(path) == small_run.results(compiled)
