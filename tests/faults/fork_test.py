"""A forked run: what its source refuses goes on in another directory."""

import dataclasses
import functools
import json
import re
import shutil
import signal

import pytest

from experiments import forking
from experiments.config import schema
from experiments.run import run_directory
from tests.support import file_operations, small_run


@pytest.mark.slow  # half a minute
def test_changed_settings_are_refused_with_the_flag_that_forks(
  finished, tmp_path, capsys
):
  source = small_run.copy(finished, tmp_path / 'run', 'stage2')
  before = {p: p.read_bytes() for p in source.rglob('*') if p.is_file()}
  assert small_run.main(source, '--alpha=3') == 2
  said = capsys.readouterr().err
  assert '--alpha: 10.0 in the run, 3.0 now' in said
  [flag] = re.findall(r'--fork-from=[^ ,]+', said)
  fork = tmp_path / 'fork'
  assert small_run.main(fork, '--alpha=3', flag) == 0
  assert json.loads((fork / 'forked_from.json').read_text()) == {
    'run': str(source), 'changed': {'--alpha': [10.0, 3.0]}
  }  # fmt: skip
  # Stage I is that of the other run, Stage II has another bonus.
  assert small_run.metrics(fork, 'stage1') == (
    small_run.metrics(source, 'stage1')
  )
  values = [small_run.metrics(run, 'stage2')[0] for run in (fork, finished)]
  assert values[0]['score/acc_t1'] == values[1]['score/acc_t1']
  assert values[0]['loss'] != values[1]['loss']
  # The same command has nothing left to do, nor has it without the flag.
  assert small_run.main(fork, '--alpha=3', flag) == 0
  assert small_run.main(fork, '--alpha=3') == 0
  assert {p: p.read_bytes() for p in before} == before


def make_run(path):
  """A run whose stages are text."""
  run = run_directory.RunDirectory(path)
  with run.lock():
    run.begin(schema.Settings(), {'train': 'a'})
    for name in ('base/checkpoints/1/params', 'stage1/checkpoints/2/params'):
      (path / name).parent.mkdir(parents=True)
      (path / name).write_text(name)
    run.stage('stage1').mark_finished(2)
    run.write_results({'base': {'acc_t1': 0.5}})
  return path


def settings_of(source, **changes):
  return dataclasses.replace(
    schema.Settings(), fork_from=str(source), **changes
  )


def test_settings_of_the_base_policy_are_refused(tmp_path):
  source = make_run(tmp_path / 'run')
  settings = settings_of(source, seed=3, alpha=2.0)
  with pytest.raises(run_directory.RunError) as error:
    forking.begin(settings, run_directory.RunDirectory(tmp_path / 'fork'))
  assert '--seed: 0 there, 3 now' in str(error.value)
  assert 'fork it with --seed=0, or' in str(error.value)
  assert 'alpha' not in str(error.value)
  missing = settings_of(tmp_path / 'no run')
  with pytest.raises(run_directory.RunError, match='no config.json'):
    forking.begin(missing, run_directory.RunDirectory(tmp_path / 'fork'))


def test_a_run_that_there_is_is_left_alone(tmp_path):
  source, other = make_run(tmp_path / 'run'), make_run(tmp_path / 'other')
  (other / 'config.json').unlink()
  before = contents(other)
  directory = run_directory.RunDirectory(other)
  forking.begin(settings_of(source, alpha=2.0), directory)
  assert contents(other) == before


def fork(source, path, at=None, listed=None):
  """Forks a run in a child, which may die at an operation."""
  directory = run_directory.RunDirectory(path)
  operations = file_operations.watch(path, at)
  with directory.lock():
    forking.begin(settings_of(source, alpha=2.0), directory)
    directory.begin(settings_of(source, alpha=2.0), {'train': 'a'})
  listed.write_text('\n'.join(operations()))


def contents(path):
  return {
    str(file.relative_to(path)): file.read_bytes()
    for file in sorted(path.rglob('*'))
    if file.is_file()
  }


# A quarter of a minute.
@pytest.mark.slow
def test_killed_at_every_file_operation_of_a_fork(tmp_path, record_property):
  source, path = make_run(tmp_path / 'run'), tmp_path / 'fork'
  go = functools.partial(file_operations.run, fork, source, path)
  listed = tmp_path / 'listed'
  assert go(None, listed) == 0
  operations, expected = listed.read_text().splitlines(), contents(path)
  assert json.loads(expected['config.json'])['settings']['alpha'] == 2.0
  assert len(operations) > 40
  for at in range(1, len(operations) + 1):
    shutil.rmtree(path)
    assert go(at, listed) == -signal.SIGKILL
    assert go(None, listed) == 0, operations[at - 1]
    assert contents(path) == expected, operations[at - 1]
  record_property('tries', len(operations))
