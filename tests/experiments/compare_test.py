"""The comparison: shared policies, resuming, the table and its numbers."""

import csv
import io
import json
import os
import shutil
import signal
import statistics

import numpy as np
import pytest
from rich import console as rich_console

from experiments import compare, many_runs, methods
from experiments.reporting import comparison_table
from score_jax.evaluation import bootstrap
from score_jax.io import metric_log
from tests.support import small_run

SMALL = (
  *small_run.FLAGS,
  '--steps-stage1=2',
  '--steps-stage2=2',
  '--methods=base,star,score,without_bonus',
)


def main(path, *more):
  return compare.main([*SMALL, f'--run-dir={path}', *more])


@pytest.fixture(scope='module')
def compared(tmp_path_factory):
  """A finished comparison with two seeds."""
  path = tmp_path_factory.mktemp('compare') / 'all'
  assert main(path, '--seeds=2') == 0
  return path


def test_files_and_numbers(compared):
  record = json.loads((compared / 'compare.json').read_text())
  assert record['budget'] == 4
  rows = record['rows']
  assert list(rows) == ['base', 'star', 'score', 'without_bonus']
  last = {'base': 'base', 'star': 'round3', 'score': 'stage2'}
  for method, row in rows.items():
    values = []
    for seed in ('0', '1'):
      results = json.loads(
        (compared / f'seed{seed}' / method / 'results.json').read_text()
      )
      numbers = results[last.get(method, 'stage2')]
      found = row['seeds'][seed]
      assert found['acc_t2'] == numbers['acc_t2']
      score = rows['score']['seeds'][seed]['acc_t2']
      assert found['gain'] == pytest.approx(numbers['acc_t2'] - score)
      values.append(numbers['acc_t2'])
    assert row['mean']['acc_t2'] == pytest.approx(sum(values) / 2)
    # Of two values: their difference over the root of 2.
    assert row['mean']['acc_t2_sd'] == pytest.approx(
      abs(values[0] - values[1]) / np.sqrt(2)
    )
    low, high = row['mean']['gain_ci95']
    assert low <= row['mean']['gain'] <= high
  assert rows['score']['mean']['gain_ci95'] == [0, 0]
  said = (compared / 'compare.md').read_text()
  assert 'Percent of 10 held-out problems; mean of 2 seeds' in said
  assert f'\n{record["notes"][0]}\n' in said
  assert record['notes'][0].startswith('Not as the paper states it: --')
  text = (compared / 'compare.csv').read_text()
  lines = list(csv.DictReader(io.StringIO(text)))
  assert len(lines) == 8
  for line in lines:
    row = rows[line['method']]
    assert float(line['delta']) == row['seeds'][line['seed']]['delta']


def test_intervals_of_gains_are_of_the_same_problems(compared):
  rows = json.loads((compared / 'compare.json').read_text())['rows']

  def right(seed, method, stage):
    path = compared / f'seed{seed}' / method / stage / 'evaluation.jsonl'
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return np.array([line['scores'][1] for line in lines])

  gains = np.stack(
    [right(s, 'star', 'round3') - right(s, 'score', 'stage2') for s in (0, 1)]
  )
  mean = rows['star']['mean']
  margin = bootstrap.margin_over_seeds(gains)
  assert mean['gain'] == pytest.approx(gains.mean())
  assert mean['gain_ci95'] == pytest.approx(
    [max(gains.mean() - margin, -1), min(gains.mean() + margin, 1)]
  )
  for own, numbers in zip(gains, rows['star']['seeds'].values(), strict=True):
    (bounds,) = bootstrap.intervals(own[:, None])
    assert numbers['gain_ci95'] == pytest.approx(bounds)


def test_epochs_of_supervised_methods(compared):
  rows = json.loads((compared / 'compare.json').read_text())['rows']
  for seed in ('0', '1'):
    stage = compared / f'seed{seed}' / 'star' / 'round3'
    counts = json.loads((stage / 'pairs.json').read_text())
    # 16 pairs an update.
    updates = len(small_run.metrics(stage.parent, 'round3'))
    pairs = counts['repairs'] + counts['both_right']
    expected = 16 * updates / pairs if pairs else 0
    assert rows['star']['seeds'][seed]['epochs'] == pytest.approx(expected)
  assert 'epochs' not in rows['score']['seeds']['0']
  lines = (compared / 'compare.md').read_text().splitlines()
  (line,) = [line for line in lines if line.startswith('| STaR, D ')]
  assert ' epochs) |' in line


def test_the_base_is_made_once_a_seed(compared):
  def files(seed, name):
    base = compared / seed / name / 'base'
    return {
      path.relative_to(base): (path.read_bytes(), path.stat().st_mtime_ns)
      for path in base.rglob('*')
      # Once a stage has begun, of the base only its policy is kept.
      if path.is_file() and not {'state', 'parameters_alone'} & set(path.parts)
    }

  for seed in ('seed0', 'seed1'):
    first = files(seed, 'base')
    assert any('checkpoints' in str(path) for path in first)
    for name in ('star', 'score', 'without_bonus'):
      # Copies, with their times: nobody made it again.
      assert files(seed, name) == first
  assert files('seed0', 'base') != files('seed1', 'base')


def test_again_there_is_nothing_to_do(compared, capsys):
  before = {p: p.stat().st_mtime_ns for p in compared.rglob('*.jsonl')}
  assert main(compared, '--seeds=2') == 0
  said = capsys.readouterr().out
  assert 'run 1 of' not in said
  for text in ('SCoRe', 'STaR, D', 'w/o', 'Acc@t2', '±'):
    assert text in said
  assert {p: p.stat().st_mtime_ns for p in compared.rglob('*.jsonl')} == before


def test_a_stopped_comparison_goes_on(compared, tmp_path, monkeypatch):
  path = tmp_path / 'all'
  write = metric_log.MetricsLog.write

  def write_and_signal(log, done, metrics):
    write(log, done, metrics)
    if log._stage == 'stage2':
      os.kill(os.getpid(), signal.SIGTERM)

  more = ('--seeds=1', '--methods=base,star,score,without_bonus')
  with monkeypatch.context() as patch:
    patch.setattr(metric_log.MetricsLog, 'write', write_and_signal)
    assert main(path, *more) == 128 + signal.SIGTERM
  rows = json.loads((path / 'compare.json').read_text())['rows']
  assert list(rows) == ['base', 'star']
  assert main(path, *more) == 0
  rows = json.loads((path / 'compare.json').read_text())['rows']
  whole = json.loads((compared / 'compare.json').read_text())['rows']
  assert {m: r['seeds']['0'] for m, r in rows.items()} == {
    m: r['seeds']['0'] for m, r in whole.items()
  }


def test_other_settings_are_not_mistaken_for_these(compared, tmp_path, capsys):
  path = tmp_path / 'all'
  shutil.copytree(compared / 'seed0', path / 'seed0')
  more = ('--seeds=1', '--methods=base,score')
  # Fewer problems: evaluated again, not trained again.
  # How long each step took would differ.
  before = (path / 'seed0/score/stage2/metrics.jsonl').read_text()
  assert main(path, *more, '--eval-problems=5') == 0
  results = small_run.results(path / 'seed0' / 'score')
  assert results['stage2']['problems'] == 5
  after = (path / 'seed0/score/stage2/metrics.jsonl').read_text()
  assert after == before
  capsys.readouterr()
  # Another step size would be another comparison.
  assert main(path, *more, '--learning-rate=1e-3') == 2
  assert 'was started with other settings' in capsys.readouterr().err


def test_a_run_that_fails_does_not_end_the_others(
  compared, tmp_path, monkeypatch, capsys
):
  real = many_runs.train.train

  def train(run):
    if run.settings.method == 'star':
      raise FloatingPointError('not finite')
    real(run)

  monkeypatch.setattr(many_runs.train, 'train', train)
  path = tmp_path / 'all'
  assert main(path, '--seeds=1', '--methods=base,star,score') == 1
  assert 'seed0/star: not finite' in ' '.join(capsys.readouterr().out.split())
  rows = json.loads((path / 'compare.json').read_text())['rows']
  assert list(rows) == ['base', 'score']
  del compared


def test_the_table_by_hand():
  rows = {
    'base': {
      'method': 'base',
      'seeds': {'0': {'acc_t1': 0.1, 'delta': -0.012}, '1': {'acc_t1': 0.2}},
      'mean': {
        'acc_t1': 0.15,
        'acc_t1_sd': statistics.stdev([0.1, 0.2]),
        'acc_t1_ci95': [0.0, 0.75],
        'delta': -0.012,
        'problems': 10,
      },
    },
    'star': {
      'method': 'star',
      'seeds': {'0': {'acc_t1': 0.3, 'epochs': 1.0}},
      'mean': {'acc_t1': 0.3, 'epochs': 1.0, 'problems': 10},
    },
  }
  console = rich_console.Console(file=io.StringIO(), width=100)
  console.print(comparison_table.make_table(rows, {'star': 'STaR'}))
  said = ' '.join(console.file.getvalue().split())
  assert 'base 15.0 -1.2 ±7.1 [0.0, 75.0]' in said
  assert 'STaR (1 seed) 30.0 - (1.0 epochs)' in said
  assert 'mean of 2 seeds' in said
  markdown = comparison_table.markdown_table(
    rows, {'star': 'STaR'}
  ).splitlines()
  assert markdown == [
    '| Method | Acc@t1 | Δ(t1,t2) | Seeds |',
    '| --- | ---: | ---: | ---: |',
    '| base | 15.0 ±7.1 [0.0, 75.0] | -1.2 | 2 |',
    '| STaR (1.0 epochs) | 30.0 | - | 1 |',
  ]


def test_time_left():
  assert many_runs._time_left([], 10) == '-'
  # A minute a run.
  assert many_runs._time_left([30.0, 90.0], 5) == '0:05 h'
  assert many_runs._time_left([60.0], 150) == '2:30 h'


class TestFlags:
  def test_other_flags_are_those_of_train(self):
    options, settings = compare.parse(
      ['--seeds', '4', '--steps-stage1=7', '--alpha', '3', '--methods=score']
    )
    assert (options.seeds, options.methods) == (4, 'score')
    assert (settings.steps_stage1, settings.alpha) == (7, 3.0)

  def test_quick_is_smaller(self):
    options, settings = compare.parse(['--quick', '--steps-stage2=9'])
    # 30 % of 100; what is said beside it holds.
    assert (settings.steps_stage1, settings.steps_stage2) == (30, 9)
    assert settings.eval_problems == 500
    planned = compare.plan_runs(options, settings, compare.directory(options))
    assert len(planned) == len(methods.METHODS)
    assert {run.settings.seed for run in planned} == {0}
    assert str(compare.directory(options)) == 'runs/compare-tiny-quick'

  def test_three_seeds_one_after_the_other(self):
    options, settings = compare.parse([])
    planned = compare.plan_runs(options, settings, compare.directory(options))
    seeds = [run.settings.seed for run in planned]
    assert seeds == sorted(seeds)
    assert len(planned) == 3 * len(methods.METHODS)
    assert len({run.settings.run_dir for run in planned}) == len(planned)

  @pytest.mark.parametrize(
    ('arguments', 'says'),
    [
      (['--methods=scroe'], "there is no method 'scroe'"),
      (['--seeds=0'], '--seeds=0: must be at least 1'),
      (['--seed=3'], '--seed is set for each run'),
      (['--dry-run'], 'shows one run: python -m experiments.train'),
      (['--alhpa=3'], '--alhpa'),
      (['--preset=tyni'], '--preset=tyni'),
      (['--turns=3'], '--method=star: needs --turns=2'),
    ],
  )
  def test_mistakes_are_rejected(self, arguments, says, capsys):
    with pytest.raises(SystemExit) as stop:
      compare.parse(arguments)
    assert stop.value.code == 2
    assert says in capsys.readouterr().err

  def test_methods_keep_the_tables_order(self):
    assert compare.method_names('score,base') == ['base', 'score']
    assert compare.method_names('all') == list(methods.METHODS)
