"""Killed or stopped and started again: the same run, bit for bit."""

import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from experiments.stages import stage_recorder
from score_jax.evaluation import evaluate
from score_jax.io import metric_log
from tests.support import small_run

# Ends its own process with SIGKILL: after the metrics of one step, which a
# resumed run must then find too late; between writing a checkpoint and giving
# it its name; where a part of a step has ended, and nothing was made of it; or
# at an evaluation, of the policy of a number.
KILLED = """
import os, signal, sys
where, stage, step, *arguments = sys.argv[1:]
def die():
  os.kill(os.getpid(), signal.SIGKILL)
if where == 'saving':
  seen = []
  def hook(event, details):
    if event == 'os.rename' and 'checkpoint-tmp' in str(details[0]):
      if f'/{stage}/checkpoints/{step}' in str(details[0]):
        die()
  sys.addaudithook(hook)
from experiments import train
from score_jax.io import metric_log
if where == 'step':
  write = metric_log.MetricsLog.write
  def write_and_die(log, done, metrics):
    write(log, done, metrics)
    if log._stage == stage and done == int(step):
      die()
  metric_log.MetricsLog.write = write_and_die
elif where != 'saving':
  from experiments.stages import stage_recorder
  from score_jax.evaluation import evaluate
  owner, name = stage_recorder.StageRecorder, 'end_part'
  if where == 'update':
    name = 'end_step'
  elif where == 'evaluation':
    owner, name = evaluate, '_sample_episodes'
  call, policies = getattr(owner, name), []
  def call_or_die(first, *rest, **options):
    if where == 'evaluation':
      policies.append(name)
      is_time = len(policies) == int(step)
    else:
      is_time = (first._directory.name, first._done + 1) == (stage, int(step))
      is_time &= where in ('update', rest[0])
    if is_time:
      die()
    return call(first, *rest, **options)
  setattr(owner, name, call_or_die)
sys.exit(train.main(arguments))
"""


def kill(path: pathlib.Path, where: str, stage: str, step: int, env) -> str:
  """Runs until the process kills itself; returns what it said."""
  child = subprocess.run(
    [
      sys.executable, '-c', KILLED, where, stage, str(step),
      *small_run.FLAGS, f'--run-dir={path}',
    ],
    cwd=small_run.ROOT, env=env, capture_output=True, text=True,
  )  # fmt: skip
  assert child.returncode == -signal.SIGKILL, child.stderr
  return child.stdout


@pytest.mark.slow
def test_killed_while_pretraining(finished, tmp_path, compiled):
  path = tmp_path / 'run'
  kill(path, 'step', 'base', 210, compiled)
  assert small_run.metrics(path, 'base')[-1]['step'] == 210
  assert not (path / 'base' / 'finished.json').exists()
  assert not (path / 'results.json').exists()
  assert small_run.main(path) == 0
  small_run.assert_same(finished, path)
  assert small_run.results(path) == small_run.results(finished)


@pytest.mark.slow  # half a minute each
@pytest.mark.parametrize('stage', ['stage1', 'stage2'])
def test_killed_at_a_random_step(finished, tmp_path, compiled, stage):
  step = int(np.random.default_rng().integers(1, 4))
  path = tmp_path / 'run'
  without = {'stage1': ('stage1', 'stage2'), 'stage2': ('stage2',)}[stage]
  small_run.copy(finished, path, *without)
  kill(path, 'step', stage, step, compiled)
  assert small_run.metrics(path, stage)[-1]['step'] == step
  assert small_run.main(path) == 0
  small_run.assert_same(finished, path)
  assert small_run.results(path) == small_run.results(finished)


@pytest.mark.slow  # half a minute each
@pytest.mark.parametrize('part', ['rollout', 'grade', 'update', 'evaluation'])
def test_killed_in_every_part(finished, tmp_path, compiled, part):
  path = small_run.copy(finished, tmp_path / 'run', 'stage2')
  kill(path, part, 'stage2', 3, compiled)
  assert small_run.main(path) == 0
  small_run.assert_same(finished, path)
  assert small_run.results(path) == small_run.results(finished)


@pytest.mark.slow
@pytest.mark.parametrize('step', [2, 4])
def test_killed_while_saving(finished, tmp_path, compiled, step):
  path = small_run.copy(finished, tmp_path / 'run', 'stage2')
  kill(path, 'saving', 'stage2', step, compiled)
  saved = sorted(p.name for p in (path / 'stage2' / 'checkpoints').iterdir())
  assert any('checkpoint-tmp' in name for name in saved)
  assert str(step) not in saved
  assert small_run.main(path) == 0
  small_run.assert_same(finished, path)
  assert small_run.results(path) == small_run.results(finished)


def signal_at(monkeypatch, owner, name, is_time):
  """Sends SIGTERM before the first call for which `is_time(*arguments)`."""
  original = getattr(owner, name)
  sent = []

  def signal_and_call(*args, **options):
    if not sent and is_time(*args):
      sent.append(True)
      os.kill(os.getpid(), signal.SIGTERM)
    return original(*args, **options)

  monkeypatch.setattr(owner, name, signal_and_call)


def test_sigterm_within_steps(finished, tmp_path, capsys, monkeypatch):
  """What a step has sampled is thrown away, and the state before it saved."""
  path = small_run.copy(finished, tmp_path / 'run', 'stage2')
  # Steps made, and the part of the next one that ends when the signal comes.
  for done, part in ((0, 'grade'), (1, 'grade'), (2, 'rollout')):

    def is_time(recorder, ended, done=done, part=part):
      return (recorder._done, ended) == (done, part)

    with monkeypatch.context() as patch:
      signal_at(patch, stage_recorder.StageRecorder, 'end_part', is_time)
      assert small_run.main(path) == 128 + signal.SIGTERM
    # Before the first update there is nothing to save.
    saved = sorted(p.name for p in (path / 'stage2' / 'checkpoints').iterdir())
    assert saved[-1:] == [str(done)] * bool(done)
    logged = [r['step'] for r in small_run.metrics(path, 'stage2')]
    assert logged == [*range(1, done + 1)]
  capsys.readouterr()
  assert small_run.main(path) == 0
  assert 'stage2: going on after step 2 of 4' in capsys.readouterr().out
  small_run.assert_same(finished, path, ['stage2'])
  assert small_run.results(path) == small_run.results(finished)


def test_sigterm_while_evaluating(finished, tmp_path, monkeypatch):
  """The policy stays; its evaluation is made again, from the first problem."""
  path = small_run.copy(finished, tmp_path / 'run')
  evaluation = path / 'stage2' / 'evaluation.jsonl'
  evaluation.unlink()
  sampled = []

  def is_time(*_):
    sampled.append(True)
    # The third policy's.
    return len(sampled) == 3

  with monkeypatch.context() as patch:
    signal_at(patch, evaluate, '_sample_episodes', is_time)
    assert small_run.main(path) == 128 + signal.SIGTERM
  assert (path / 'stage2' / 'finished.json').exists()
  assert small_run.results(path).keys() == {'base', 'stage1'}
  assert not evaluation.exists()
  assert small_run.main(path) == 0
  assert small_run.results(path) == small_run.results(finished)
  expected = (finished / 'stage2' / 'evaluation.jsonl').read_text()
  assert evaluation.read_text() == expected


@pytest.mark.parametrize(
  ('stage', 'step'), [('base', 100), ('stage1', 3), ('stage2', 1)]
)
def test_sigterm_saves_and_the_run_goes_on(
  finished, tmp_path, capsys, monkeypatch, stage, step
):
  path = tmp_path / 'run'
  if stage != 'base':
    without = {'stage1': ('stage1', 'stage2'), 'stage2': ('stage2',)}[stage]
    small_run.copy(finished, path, *without)
  write = metric_log.MetricsLog.write

  def write_and_signal(log, done, metrics):
    write(log, done, metrics)
    if log._stage == stage and done == step:
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(metric_log.MetricsLog, 'write', write_and_signal)
    assert small_run.main(path) == 128 + signal.SIGTERM
  saved = (path / stage / 'checkpoints').iterdir()
  assert str(step) in {p.name for p in saved}
  assert not (path / stage / 'finished.json').exists()
  assert stage == 'base' or stage not in small_run.results(path)
  if stage == 'base':
    # An unfinished base policy is not what later policies are compared with.
    assert not (path / 'results.json').exists()
  capsys.readouterr()
  assert small_run.main(path) == 0
  if stage != 'base':
    said = capsys.readouterr().out
    assert f'{stage}: going on after step {step} of 4' in said
  small_run.assert_same(finished, path)
  assert small_run.results(path) == small_run.results(finished)
