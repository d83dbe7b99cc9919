"""Several processes of one run: alike, as one, and ended together.

The runs are real ones, of two processes with two virtual devices each.
"""

import dataclasses
import os
import signal

import jax
import pytest

from experiments import train
from experiments.config import command_line, groups, schema
from experiments.run import processes, run_directory
from score_jax import heartbeat
from tests.support import process_group, small_run

FLAGS = (
  *small_run.TASK,
  *small_run.MODEL,
  *small_run.TRAINING,
  '--pretrain.steps=20',
  '--steps-stage1=2',
  '--steps-stage2=2',
  '--checkpoint-every=1',
  '--log-samples-every=1',
)
# One process sends itself a signal when it has logged a step.
SIGNALLED = """
import os, signal, sys
from experiments import train
from score_jax.io import metric_log
index, number, stage, step, *arguments = sys.argv[1:]
write = metric_log.MetricsLog.write
def write_and_signal(log, done, metrics):
  write(log, done, metrics)
  if (log._stage, done) == (stage, int(step)):
    os.kill(os.getpid(), int(number))
if os.environ['JAX_PROCESS_ID'] == index:
  metric_log.MetricsLog.write = write_and_signal
sys.exit(train.main(arguments))
"""


@pytest.fixture(scope='module')
def two(tmp_path_factory, compiled):
  """A run that two processes made."""
  path = tmp_path_factory.mktemp('two') / 'run'
  first, second = process_group.run(
    '-m', 'experiments.train', *FLAGS, f'--run-dir={path}', environment=compiled
  )
  assert 'stage2: finished' in first.output
  assert 'stage2  2/2' in first.output
  # People read one process's words.
  assert second.output == ''
  return path


@pytest.fixture(scope='module')
def one(tmp_path_factory):
  """The same run of one process, with as many devices."""
  path = tmp_path_factory.mktemp('one') / 'run'
  assert main(path) == 0
  return path


def main(path) -> int:
  """Goes on with a run in this process alone."""
  return train.main([*FLAGS, f'--run-dir={path}', '--mesh.fsdp=4'])


def files_of(path) -> list[str]:
  """What people read, and which steps were saved."""
  found = []
  for file in path.rglob('*'):
    name = file.relative_to(path)
    if 'checkpoints' in name.parts:
      name = '/'.join(name.parts[:3])
    elif 'tensorboard' in name.parts:
      name = name.parent
    found.append(str(name))
  return sorted(set(found))


def assert_same_run(one, other) -> None:
  """The same files, texts and scores, and numbers to rounding."""
  assert files_of(one) == files_of(other)
  for stage in ('base', 'stage1', 'stage2'):
    pairs = zip(
      small_run.metrics(one, stage),
      small_run.metrics(other, stage),
      strict=True,
    )
    for a, b in pairs:
      assert a.keys() == b.keys()
      for name in a:
        if name.startswith(('score/', 'reward/', 'truncated/')):
          assert a[name] == b[name], (stage, name)
        elif name != 'stage' and name != 'engine/logprob_gap_max':
          assert a[name] == pytest.approx(b[name], rel=1e-2, abs=1e-3), name
    if stage != 'base':
      for name in ('samples.jsonl', 'evaluation.jsonl'):
        texts = [(path / stage / name).read_text() for path in (one, other)]
        assert texts[0] == texts[1]
  assert small_run.results(one) == small_run.results(other)


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(one, two):
  assert_same_run(one, two)
  records = small_run.metrics(two, 'stage1')
  assert [record['step'] for record in records] == [1, 2]
  # Something was sampled and graded by both: all 16 rows are graded.
  assert [record['reward/ungraded'] for record in records] == [0, 0]


@pytest.mark.slow
def test_two_processes_repeat_the_evaluation(two, compiled):
  before = files_of(two)
  first, second = process_group.run(
    '-m', 'experiments.evaluate', f'--run-dir={two}', environment=compiled
  )
  for name in ('base', 'stage1', 'stage2'):
    assert f'{name}: the same numbers as in results.json' in first.output
  assert second.output == ''
  assert files_of(two) == before


@pytest.mark.slow
@pytest.mark.parametrize(
  ('index', 'number', 'step'), [(1, signal.SIGTERM, 1), (0, signal.SIGKILL, 2)]
)
def test_a_signal_to_one_process(
  one, two, tmp_path, compiled, index, number, step
):
  """Both end; one process goes on with what they saved."""
  path = small_run.copy(two, tmp_path / 'run', 'stage2')
  ended = process_group.finish(
    process_group.start(
      '-c', SIGNALLED, str(index), str(int(number)), 'stage2', str(step),
      *FLAGS, f'--run-dir={path}', environment=compiled,
    )
  )  # fmt: skip
  if number == signal.SIGTERM:
    assert [end.returncode for end in ended] == [128 + number] * 2
    assert 'Stopped; the same command goes on' in ended[0].output
    saved = {p.name for p in (path / 'stage2' / 'checkpoints').iterdir()}
    assert saved == {str(step)}
  else:
    assert ended[index].returncode == -number
    left = ended[1 - index]
    assert left.returncode == heartbeat.EXIT_CODE
    assert f'error: process {index} (' in left.errors
  assert not (path / 'stage2' / 'finished.json').exists()
  assert main(path) == 0
  assert_same_run(one, path)


def test_other_settings_are_a_message(tmp_path):
  path = tmp_path / 'run'
  ended = process_group.finish(
    process_group.start(
      '-m', 'experiments.train', *FLAGS, f'--run-dir={path}',
      '--processes.coordinator={address}', '--processes.count=2',
      '--processes.index={index}', '--seed={index}', joined=False,
    )
  )  # fmt: skip
  for end in ended:
    assert end.returncode == 2
    assert 'the processes do not agree' in end.errors
    assert '--seed: 0 in process 0, 1 in process 1' in end.errors
    assert 'processes.index' not in end.errors
  assert not path.exists()


def test_flags_of_the_tpu_compiler_are_those_of_the_user_if_any(monkeypatch):
  settings, _ = command_line.load_preset('gemma2_9b_math_v5p')
  monkeypatch.delenv('LIBTPU_INIT_ARGS', raising=False)
  processes.begin(dataclasses.replace(settings, libtpu_init_args=''))
  assert 'LIBTPU_INIT_ARGS' not in os.environ
  processes.begin(settings)
  assert os.environ['LIBTPU_INIT_ARGS'] == schema.V5P_ARGS
  monkeypatch.setenv('LIBTPU_INIT_ARGS', '--mine=1')
  processes.begin(settings)
  assert os.environ['LIBTPU_INIT_ARGS'] == '--mine=1'


def join(**fields):
  processes.join(groups.Processes(**fields))


def test_where_nothing_is_said_nothing_happens():
  join()
  assert not jax.distributed.is_initialized()


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'count': 2, 'index': 0}, '--processes.coordinator'),
    ({'coordinator': 'a:1'}, 'needs the count'),
    ({'coordinator': 'a:1', 'count': 2}, 'needs the count'),
    ({'coordinator': 'a:1', 'count': 2, 'index': 2}, 'the last is 1'),
  ],
)
def test_what_is_not_said_well_enough(fields, message):
  with pytest.raises(run_directory.RunError, match=message):
    join(**fields)


def test_variables_are_read_where_flags_are_missing(monkeypatch):
  monkeypatch.setenv('JAX_NUM_PROCESSES', 'two')
  with pytest.raises(run_directory.RunError, match='=two: not a number'):
    join()
  monkeypatch.setenv('JAX_NUM_PROCESSES', '2')
  monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', 'a:1')
  with pytest.raises(run_directory.RunError, match='=a:1 needs'):
    join()
  monkeypatch.setenv('JAX_PROCESS_ID', '5')
  with pytest.raises(run_directory.RunError, match='the last is 1'):
    join()
