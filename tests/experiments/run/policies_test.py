"""Which policies a run makes, in which order, from what."""

import dataclasses
import io

import numpy as np
import pytest
from rich import console as rich_console

from experiments import methods, presets
from experiments.config import command_line
from experiments.run import building, policies, run_directory
from experiments.stages import rl_stage
from score_jax.tasks import batches
from tests.support import small_run


def settings_of(*more):
  return command_line.parse_settings([*small_run.FLAGS, *more])


def make_plan(path, *more):
  console = rich_console.Console(file=io.StringIO(), width=200)
  settings = settings_of(*more)
  run = building.build(
    settings,
    building.load_task(settings),
    run_directory.RunDirectory(path),
    console,
  )
  return policies.make_plan(run), console.file.getvalue()


def test_plans(finished, tmp_path):
  plan, said = make_plan(tmp_path)
  assert (list(plan), said) == (['stage1', 'stage2'], '')
  plan, said = make_plan(tmp_path, '--stage=1')
  assert (list(plan), said) == (['stage1'], '')
  plan, said = make_plan(tmp_path, '--stage=2')
  assert list(plan) == ['stage1', 'stage2']
  assert '--stage=2 needs stage1 first' in said
  plan, said = make_plan(finished, '--stage=2')
  # Stage I is there: it is read, not made.
  assert (list(plan), said) == (['stage1', 'stage2'], '')


def test_other_presets_do_not_make_what_is_missing(
  tmp_path, monkeypatch, capsys
):
  there = tmp_path / 'presets'
  there.mkdir()
  (there / 'other.py').write_text(
    '"""Another preset."""\n'
    'from experiments.config import schema\n'
    'SETTINGS = schema.Settings()\n'
  )
  monkeypatch.setattr(presets, '__path__', [*presets.__path__, str(there)])
  path = tmp_path / 'run'
  assert small_run.main(path, '--preset=other', '--stage=2') == 2
  message = capsys.readouterr().err
  assert f'{path}/stage1 has none that is finished' in message
  assert (
    'python -m experiments.train --preset=other '
    f'--run-dir={path} --stage=1' in message
  )
  assert not (path / 'base').exists()


def test_finished_policies(finished, tmp_path):
  run = run_directory.RunDirectory(finished)
  assert policies.finished_policies(run) == [
    'base', 'stage1', 'stage2'
  ]  # fmt: skip
  assert policies.choose_finished(run, 'stage1') == 'stage1'
  path = small_run.begin_from_base(finished, tmp_path / 'run')
  begun = run_directory.RunDirectory(path)
  assert policies.finished_policies(begun) == ['base']
  with pytest.raises(run_directory.RunError, match='it has: base'):
    policies.choose_finished(begun, 'stage2')


def test_a_policy_that_was_never_saved(finished, tmp_path):
  run = building.reopen(run_directory.RunDirectory(finished))
  empty = dataclasses.replace(
    run, directory=run_directory.RunDirectory(tmp_path)
  )
  with pytest.raises(run_directory.RunError, match='has no checkpoint'):
    policies.restore(empty, 'stage1', 'latest')


def test_given_attempts_are_the_bases_own_and_always_the_same(finished):
  run = building.reopen(run_directory.RunDirectory(finished))
  base = policies.stage_policy(run, 'base')

  def given(step, stage='stage2', share=0.5):
    changed = settings_of(f'--given-attempts-share={share}')
    problems = batches.batch(run.task.train, 4, 0, step)
    attempts = rl_stage.given_first_attempts(
      run, methods.stages(changed)[stage], base, problems
    )
    return [p.id for p in problems], attempts

  ids, first = given(0)
  assert first.tokens.shape == (16, 2, 4)
  # Half of each problem's four samples, turn 1 only.
  lengths = np.asarray(first.length).reshape(4, 4, 2)
  assert (lengths[:, :2, 0] > 0).all()
  assert not lengths[:, 2:, 0].any()
  assert not lengths[:, :, 1].any()
  # The pool is fixed: a problem that comes back has the same attempts, in
  # another batch and at another step.
  pool = {}
  shared = 0
  for step in (*range(8), *range(22, 26)):
    ids, attempts = given(step)
    tokens = np.asarray(attempts.tokens).reshape(4, 4, 2, 4)[:, :2, 0]
    for name, found in zip(ids, tokens.tolist()):
      # A problem that is in a batch twice has further attempts there.
      if ids.count(name) == 1:
        shared += name in pool
        assert pool.setdefault(name, found) == found
  assert shared
  assert given(0, stage='stage1')[1] is None
  assert given(0, share=0.0)[1] is None


def test_beta2_moves_by_its_measurements():
  state = _State(0.1)
  metrics = {
    'kl/turn1': (np.float32(8.0), np.int32(4)),
    'advantage_magnitude/turn2': (np.float32(0.2), np.int32(4)),
  }
  # beta2 * KL = 0.1 * 2 against 0.05: log 4 = 1.39, clipped to 1; a step of
  # 5 %: 0.1 * exp(0.05).
  stage = methods.stages(settings_of('--adaptive-beta2'))['stage1']
  moved = rl_stage.adapt_beta2(settings_of(), stage, state, metrics)
  assert float(moved.beta2) == pytest.approx(0.1 * np.exp(0.05), rel=1e-5)


class _State:
  """The one field of a training state that adapts."""

  def __init__(self, beta2):
    self.beta2 = np.float32(beta2)

  def replace(self, beta2):
    return _State(beta2)
