"""A short run of every method, from one base policy."""

import json

import numpy as np
import pytest

from experiments import methods
from experiments.run import building, policies, run_directory
from tests.support import small_run

pytestmark = pytest.mark.slow

STEPS = ('--steps-stage1=2', '--steps-stage2=2', '--sft.rounds=2')
METHODS = [name for name in methods.METHODS if name != 'score']


@pytest.mark.parametrize('method', METHODS)
def test_every_method_runs(finished, tmp_path, method):
  more = (*STEPS, f'--method={method}')
  path = small_run.begin_from_base(finished, tmp_path / 'run', *more)
  assert small_run.main(path, *more) == 0
  run = run_directory.RunDirectory(path)
  settings = run.read_settings()
  table = methods.stages(settings)
  results = small_run.results(path)
  assert list(results) == ['base', *table]
  assert results['base'] == small_run.results(finished)['base']
  assert policies.finished_policies(run) == ['base', *table]
  for name, stage in table.items():
    records = small_run.metrics(path, name)
    if isinstance(stage, methods.RLStage):
      assert len(records) == stage.steps
      assert all(r['engine/logprob_gap_max'] < 1e-4 for r in records)
  check = CHECKS.get(method)
  if check:
    check(path, finished)


def _check_offline(path, finished):
  first = small_run.metrics(finished, 'stage1')[:2]
  assert small_run.metrics(path, 'stage1') == first
  for record in small_run.metrics(path, 'stage2'):
    # No first attempt is the policy's own: none has a KL or a length to report.
    assert 'kl/turn1' not in record
    assert 'reward/turn1' not in record
    assert 'kl/turn2' in record


def _check_last_turn(path, finished):
  for record in small_run.metrics(path, 'multi_turn_fig5'):
    assert record['reward/turn1'] == 0
    assert record['reward/turn2'] == pytest.approx(record['score/acc_t2'])
    assert record['policy_loss/turn1'] == 0


def _check_discount(path, finished):
  for record in small_run.metrics(path, 'stage2'):
    # alpha = 1: turn 2 has score + gain, turn 1 has 0.8 of that beside its own.
    second = 2 * record['score/acc_t2'] - record['score/acc_t1']
    assert record['reward/turn2'] == pytest.approx(second, abs=1e-6)
    assert record['reward/turn1'] == pytest.approx(
      record['score/acc_t1'] + 0.8 * second, abs=1e-6
    )


def _check_grpo(path, finished):
  # Normalised advantages of a group with spread have mean square 1; without
  # spread they are 0.
  for record in small_run.metrics(path, 'grpo'):
    for k in (1, 2):
      assert record[f'advantage_magnitude/turn{k}'] <= 1
      if record[f'score/frac_zero_spread_t{k}'] == 1:
        assert record[f'advantage_magnitude/turn{k}'] == 0


def _check_interleaved(path, finished):
  del finished
  # The second Stage I begins at the policy of the first Stage II, and is
  # KL-anchored to the base.
  first = small_run.metrics(path, 'stage1_2')[0]
  assert first['kl/turn1'] > 1e-6


def _check_shared_stage_one(path, finished):
  ours, theirs = small_run.metrics(path, 'stage1'), []
  theirs = small_run.metrics(finished, 'stage1')[: len(ours)]
  assert ours == theirs


CHECKS = {
  'offline_first_attempts': _check_offline,
  'multi_turn_fig5': _check_last_turn,
  'discount_08': _check_discount,
  'grpo': _check_grpo,
  'interleaved': _check_interleaved,
  'without_bonus': _check_shared_stage_one,
  'star_stage2': _check_shared_stage_one,
}


def test_self_refine_says_something_else(finished, tmp_path):
  more = ('--method=self_refine', '--self-refine-instruction=Fix 1+1 to 2')
  path = small_run.begin_from_base(finished, tmp_path / 'run', *more)
  assert small_run.main(path, *more) == 0
  run = building.reopen(run_directory.RunDirectory(path))
  own = policies.run_of(run, 'self_refine')
  assert own.task.instruction == 'Fix 1+1 to 2'
  assert own.sampler.task.instruction == 'Fix 1+1 to 2'
  assert policies.run_of(run, 'base') is run
  # The first attempts are the base policy's, the second ones need not be.
  firsts, seconds = (
    [
      [json.loads(line)['attempts'][k] for line in text.splitlines()]
      for text in (
        (path / name / 'evaluation.jsonl').read_text()
        for name in ('base', 'self_refine')
      )
    ]
    for k in (0, 1)
  )
  assert firsts[0] == firsts[1]
  assert len(seconds[0]) == len(seconds[1]) == 10
  base, refined = (
    policies.stage_policy(run, name) for name in ('base', 'self_refine')
  )
  np.testing.assert_array_equal(base['embedding'], refined['embedding'])


def test_three_turns_stage_by_stage(finished, tmp_path):
  more = ('--turns=3', '--steps-stage1=2', '--steps-stage2=2')
  path = small_run.begin_from_base(finished, tmp_path / 'run', *more)
  for stage, there in (
    ('1a', ['base', 'stage1a']),
    ('1b', ['base', 'stage1a', 'stage1b']),
    ('2', ['base', 'stage1a', 'stage1b', 'stage2']),
  ):
    assert small_run.main(path, *more, f'--stage={stage}') == 0
    assert list(small_run.results(path)) == there
  assert 'acc_t3' in small_run.results(path)['stage2']
  # Stage 1b's reference is Stage 1a's policy.
  assert abs(small_run.metrics(path, 'stage1b')[0]['kl/turn1']) < 1e-6
  # Stage II's is the base.
  assert small_run.metrics(path, 'stage2')[0]['kl/turn1'] > 1e-6
