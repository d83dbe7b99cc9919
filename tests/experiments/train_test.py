"""Whole runs, end to end, small enough for a test."""

import dataclasses
import inspect
import json
import math
import pathlib

import numpy as np
import pytest

from experiments.config import fields, schema
from experiments.run import building, run_directory
from score_jax.algorithm import adaptive, losses
from score_jax.io import json_files
from tests.support import small_run

# What results.json says of each policy; others may find more there.
RESULT_KEYS = {
  'acc_t1', 'acc_t2', 'delta', 'delta_ci95', 'i_to_c', 'c_to_i', 'problems'
}  # fmt: skip
# Metrics that readers of a run rely on.
METRICS = {
  'score/acc_t1', 'score/acc_t2', 'score/delta', 'score/i_to_c',
  'score/c_to_i', 'score/frac_identical', 'score/edit_distance_ratio',
  'score/frac_zero_spread', 'reward/turn1', 'reward/turn2', 'kl/turn1',
  'kl/turn2', 'entropy/turn1', 'entropy/turn2', 'truncated/turn1',
  'truncated/turn2', 'length/turn1', 'length/turn2', 'reward/timeouts',
  'reward/errors', 'engine/logprob_gap_max', 'perf/tokens_per_second',
  'loss', 'grad_norm', 'skipped',
}  # fmt: skip


def test_a_run_leaves_everything_behind(finished):
  config = json.loads((finished / 'config.json').read_text())
  flat = fields.flatten(fields.from_record(schema.Settings, config['settings']))
  assert flat['arithmetic.digits'] == 1
  assert set(config['data']) == {'train', 'validation', 'test'}
  results = small_run.results(finished)
  assert list(results) == ['base', 'stage1', 'stage2']
  for name, numbers in results.items():
    assert set(numbers) >= RESULT_KEYS, name
    low, high = numbers['delta_ci95']
    assert low <= numbers['delta'] <= high
    assert numbers['delta'] == pytest.approx(
      numbers['acc_t2'] - numbers['acc_t1']
    )
    assert numbers['delta'] == pytest.approx(
      numbers['i_to_c'] - numbers['c_to_i']
    )
    # A tenth of the hundred sums of two digits.
    assert numbers['problems'] == 10
  png = (finished / 'curves.png').read_bytes()
  assert png.startswith(b'\x89PNG')


@pytest.mark.parametrize('stage', ['stage1', 'stage2'])
def test_one_line_of_metrics_a_step(finished, stage):
  path = finished / stage / 'metrics.jsonl'
  records = [json.loads(line) for line in path.read_text().splitlines()]
  assert [r['step'] for r in records] == [1, 2, 3, 4]
  for record in records:
    assert record['stage'] == stage
    assert set(record) >= METRICS
    assert all(math.isfinite(record[name]) for name in METRICS)
    # f32, sampler against trainer.
    assert record['engine/logprob_gap_max'] < 1e-4
  assert any((finished / stage / 'tensorboard').iterdir())


@pytest.mark.parametrize('stage', ['stage1', 'stage2'])
def test_samples_have_both_attempts(finished, stage):
  path = finished / stage / 'samples.jsonl'
  records = [json.loads(line) for line in path.read_text().splitlines()]
  assert {r['step'] for r in records} == {2, 4}
  for record in records:
    first, second = (int(number) for number in record['question'].split('+'))
    assert int(record['reference']) == first + second
    right = [float(text == record['reference']) for text in record['attempts']]
    assert record['scores'] == right


@pytest.mark.parametrize(('stage', 'before'), [('stage1', 0), ('stage2', 4)])
def test_problems_go_on_where_the_stage_before_ended(finished, stage, before):
  run = building.reopen(run_directory.RunDirectory(finished))
  records = json_files.read_lines(finished / stage / 'samples.jsonl')
  for record in records:
    batch = run.batch(before + record['step'] - 1)
    assert record['question'] in {problem.question for problem in batch}


def test_few_problems_are_seen_often(finished):
  run = building.reopen(run_directory.RunDirectory(finished))
  settings = dataclasses.replace(run.settings, train_problems=3)
  few = dataclasses.replace(run, settings=settings)
  # Three batches of four: each problem four times.
  seen = [problem.id for number in range(3) for problem in few.batch(number)]
  ids = [problem.id for problem in run.task.train[:3]]
  assert sorted(seen) == sorted(ids * 4)


def test_the_bonus_is_only_in_stage_two(finished):
  first = small_run.metrics(finished, 'stage1')
  second = small_run.metrics(finished, 'stage2')
  assert all('reward/bonus' not in record for record in first)
  # alpha = 10: the reward of turn 2 is score + 10 * (gain).
  for record in second:
    assert record['reward/bonus'] == pytest.approx(
      10 * record['score/delta'], abs=1e-5
    )
    assert record['reward/turn2'] == pytest.approx(
      record['score/acc_t2'] + record['reward/bonus'], abs=1e-5
    )
    assert record['reward/turn1'] == pytest.approx(record['score/acc_t1'])
  for record in first:
    assert record['reward/turn1'] == 0
    assert record['reward/turn2'] == pytest.approx(record['score/acc_t2'])


def test_the_stages_learn(finished):
  # Nothing is skipped, and the policies are different ones.
  records = small_run.metrics(finished, 'stage1')
  records += small_run.metrics(finished, 'stage2')
  assert all(record['skipped'] == 0 for record in records)
  assert any(record['score/frac_zero_spread'] < 1 for record in records)
  base = small_run.state(finished, 'base')
  stage1 = small_run.state(finished, 'stage1')
  shapes = {leaf.shape for leaf in base}
  largest = max(shapes, key=math.prod)
  before = next(leaf for leaf in base if leaf.shape == largest)
  after = next(leaf for leaf in stage1 if leaf.shape == largest)
  assert np.abs(after - before).max() > 1e-4
  # The first step's policy is the reference itself.
  assert abs(records[0]['kl/turn1']) < 1e-6
  assert records[3]['kl/turn1'] > 1e-6


def test_what_is_left_of_each_stage(finished):
  """Parameters; of the last one also the state that it could go on from."""
  items = {
    stage: {
      (path.name, item.name)
      for path in (finished / stage / 'checkpoints').iterdir()
      for item in path.iterdir()
      if item.name in ('params', 'state')
    }
    for stage in ('base', 'stage1', 'stage2')
  }
  assert items['base'] == {('220', 'params')}
  [(_, left)] = items['stage1']
  assert left == 'params'
  assert items['stage2'] >= {('4', 'params'), ('4', 'state')}
  assert len(items['stage2']) <= 3  # the parameters of the best


def test_the_same_command_again_has_nothing_to_do(finished, capsys):
  before = {
    path: path.read_bytes()
    for path in finished.rglob('*')
    if path.is_file() and path.suffix in ('.jsonl', '.json', '.model')
  }
  assert small_run.main(finished) == 0
  output = capsys.readouterr().out
  assert 'nothing left to do' in ' '.join(output.split())
  assert 'Accuracy@t2' in output
  assert 'stage1  1/4' not in output
  for path, content in before.items():
    assert path.read_bytes() == content, path


def test_stage_by_stage_is_all_at_once(finished, tmp_path, capsys):
  path = small_run.begin_from_base(finished, tmp_path / 'run')
  assert small_run.main(path, '--stage=1') == 0
  assert list(small_run.results(path)) == ['base', 'stage1']
  assert small_run.main(path, '--stage=2') == 0
  assert 'making it now' not in capsys.readouterr().out
  small_run.assert_same(finished, path)
  assert small_run.results(path) == small_run.results(finished)


def test_stage_two_alone_makes_what_is_missing(finished, tmp_path, capsys):
  path = small_run.begin_from_base(finished, tmp_path / 'run')
  assert small_run.main(path, '--stage=2') == 0
  said = ' '.join(capsys.readouterr().out.split())
  assert '--stage=2 needs stage1 first' in said
  assert 'making it now' in said
  small_run.assert_same(finished, path)


def test_reporting_does_not_change_training(finished, tmp_path):
  path = small_run.begin_from_base(
    finished, tmp_path / 'run', '--eval-every=1', '--log-samples-every=0'
  )
  assert small_run.main(path, '--eval-every=1', '--log-samples-every=0') == 0
  for stage in ('stage1', 'stage2'):
    states = zip(small_run.state(finished, stage), small_run.state(path, stage))
    for one, other in states:
      np.testing.assert_array_equal(one, other)
    records = small_run.metrics(path, stage)
    last = {
      'acc_t1': records[-1]['eval/acc_t1'],
      'acc_t2': records[-1]['eval/acc_t2'],
    }
    assert all(0 <= value <= 1 for value in last.values())
    without = [
      {n: v for n, v in record.items() if not n.startswith('eval/')}
      for record in records
    ]
    assert without == small_run.metrics(finished, stage)


def test_a_longer_second_stage_is_evaluated_again(finished, tmp_path, capsys):
  path = tmp_path / 'run'
  small_run.copy_to_edit(finished, path)
  old = small_run.results(path)
  # What an evaluation of another policy would have left.
  old['stage2']['acc_t1'] = 7.0
  (path / 'results.json').write_text(json.dumps(old))
  more = ('--steps-stage2=6',)
  assert small_run.main(path, *more) == 0
  said = capsys.readouterr().out
  assert 'stage2: going on after step 4 of 6' in said
  assert small_run.results(path)['stage2']['acc_t1'] <= 1
  records = small_run.metrics(path, 'stage2')
  assert [r['step'] for r in records] == [1, 2, 3, 4, 5, 6]
  assert records[:4] == small_run.metrics(finished, 'stage2')


VARIANTS = {
  'kl in the reward': ('--kl=reward',),
  'k3': ('--kl=k3',),
  'adaptive': ('--adaptive-beta2',),
  'given attempts': ('--given-attempts-share=0.5',),
  'discount': ('--discount=0.8',),
  'micro-batches': ('--micro-batch=4',),
  'three turns': ('--turns=3',),
  'last': ('--checkpoint-selection=last',),
  'single turn': ('--method=single_turn', '--turns=1'),
  'multi turn': ('--method=multi_turn',),
  'no stage one': ('--steps-stage1=0',),
}
# The others are slow together.
_QUICK = ('kl in the reward', 'given attempts', 'single turn')


@pytest.mark.parametrize(
  'name',
  [
    name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in VARIANTS
  ],
)
def test_two_steps_of_each_variant(finished, tmp_path, name):
  more = ('--steps-stage1=2', '--steps-stage2=2', *VARIANTS[name])
  path = small_run.begin_from_base(finished, tmp_path / 'run', *more)
  assert small_run.main(path, *more) == 0
  stages = {
    'three turns': ['stage1a', 'stage1b', 'stage2'],
    'single turn': ['single_turn'],
    'multi turn': ['multi_turn'],
  }.get(name, ['stage1', 'stage2'])
  assert list(small_run.results(path)) == ['base', *stages]
  for stage in stages:
    steps = len(small_run.metrics(path, stage))
    expected = {'single turn': 4, 'multi turn': 4}.get(name, 2)
    assert steps == (
      0 if (name, stage) == ('no stage one', 'stage1') else expected
    )
  check = CHECKS.get(name)
  if check:
    check({s: small_run.metrics(path, s) for s in stages}, finished)


def _check_adaptive(metrics, finished):
  # beta2 moves in Stage I, from --beta2, by what each step has measured ...
  beta2 = 0.1
  for record in metrics['stage1']:
    beta2 = adaptive.adapt_beta2(
      beta2,
      record['kl/turn1'],
      record['advantage_magnitude/turn2'],
      initial=0.1,
    )
    assert record['beta2'] == pytest.approx(float(beta2), rel=1e-5)
  assert metrics['stage1'][-1]['beta2'] != pytest.approx(0.1, rel=1e-4)
  # ... and has no say in Stage II.
  assert {r['beta2'] for r in metrics['stage2']} == {np.float32(0.1)}
  del finished


def _check_given(metrics, finished):
  # Stage I does not know of them.
  assert metrics['stage1'] == small_run.metrics(finished, 'stage1')[:2]
  for record in metrics['stage2']:
    assert record['engine/logprob_gap_max'] < 1e-4
    assert record['reward/ungraded'] == 0


def _check_micro(metrics, finished):
  whole = small_run.metrics(finished, 'stage1')[0]
  for name, value in metrics['stage1'][0].items():
    # The gap is a difference of roundings itself.
    if name not in ('stage', 'engine/logprob_gap_max'):
      assert value == pytest.approx(whole[name], rel=1e-4, abs=1e-6), name


def _check_three_turns(metrics, finished):
  del finished
  assert 'score/acc_t3' not in metrics['stage1a'][0]
  assert 'score/acc_t3' in metrics['stage1b'][0]
  # Stage 1b begins at its own reference, the policy of Stage 1a.
  assert abs(metrics['stage1b'][0]['kl/turn1']) < 1e-6
  assert metrics['stage1b'][0]['reward/turn2'] == 0


def _check_kl_in_reward(metrics, finished):
  del finished
  # Stage I does not reward turn 1: its advantages are those of the KL, which
  # begins at 0.
  first, second = metrics['stage1']
  assert first['advantage_magnitude/turn1'] < 1e-6
  assert second['advantage_magnitude/turn1'] > 1e-6


def _check_single_turn(metrics, finished):
  del finished
  for record in metrics['single_turn']:
    assert {n for n in record if n.startswith('score/acc')} == {'score/acc_t1'}


CHECKS = {
  'kl in the reward': _check_kl_in_reward,
  'single turn': _check_single_turn,
  'adaptive': _check_adaptive,
  'given attempts': _check_given,
  'micro-batches': _check_micro,
  'three turns': _check_three_turns,
}


@pytest.mark.parametrize(
  ('flag', 'says'),
  [
    ('--alhpa=3', '--alhpa'),
    ('--samples-per-problem=1', '--samples-per-problem=1'),
    ('--micro-batch=3', '--micro-batch=3'),
    ('--task=records', 'needs --data.file=FILE'),
  ],
)
def test_mistakes_are_rejected_before_anything_is_made(
  flag, says, tmp_path, capsys
):
  with pytest.raises(SystemExit) as stop:
    small_run.main(tmp_path / 'run', flag)
  assert stop.value.code == 2
  assert says in capsys.readouterr().err
  assert not (tmp_path / 'run').exists()


def test_dry_run_makes_nothing(tmp_path, capsys):
  assert small_run.main(tmp_path / 'run', '--dry-run', '--beta1=0.02') == 0
  assert '--beta1' in capsys.readouterr().out
  assert not (tmp_path / 'run').exists()


def test_other_settings_are_rejected(finished, capsys):
  before = (finished / 'config.json').read_bytes()
  assert small_run.main(finished, '--alpha=3') == 2
  message = capsys.readouterr().err
  assert '--alpha: 10.0 in the run, 3.0 now' in message
  assert f'--run-dir=DIR; with --fork-from={finished}, too,' in message
  assert (finished / 'config.json').read_bytes() == before


def test_from_main_to_the_loss_in_five_files(finished, tmp_path, monkeypatch):
  # Another step size is another program, traced here and now.
  more = ('--learning-rate=3e-6',)
  path = small_run.begin_from_base(finished, tmp_path / 'run', *more)
  stacks = []

  def look(*arguments, **options):
    stacks.append([frame.filename for frame in inspect.stack()])
    return score_loss(*arguments, **options)

  score_loss = losses.score_loss
  monkeypatch.setattr(losses, 'score_loss', look)
  assert small_run.main(path, *more) == 0
  root = f'{small_run.ROOT}/'
  own = {
    file
    for file in [*stacks[0], losses.__file__]
    if file.startswith((f'{root}score_jax/', f'{root}experiments/'))
  }
  sizes = {f: len(pathlib.Path(f).read_text().splitlines()) for f in own}
  assert len(sizes) <= 5, sizes
  assert sum(sizes.values()) <= 600, sizes
