"""Studies: what is varied, what is written, and where it joins up."""

import json
import pathlib

import pytest

from experiments import many_runs, studies
from experiments.config import command_line
from tests.support import small_run

pytestmark = pytest.mark.slow

SMALL = (
  *small_run.FLAGS,
  '--steps-stage1=2',
  '--steps-stage2=2',
  '--seeds=1',
)


def test_a_sweep_of_stage_one(tmp_path, capsys):
  path = tmp_path / 'study'
  arguments = [
    *SMALL, '--sweep=stage1_steps', '--values=3,0', '--methods=score',
    f'--run-dir={path}',
  ]  # fmt: skip
  assert studies.main(arguments) == 0
  assert 'SCoRe, 3' in ' '.join(capsys.readouterr().out.split())
  record = json.loads((path / 'study.json').read_text())
  assert list(record['rows']) == ['score at 0', 'score at 3']
  for row in record['rows'].values():
    assert row['value'] in (0, 3)
    assert len(row['ability']) == 1
    assert 0 <= row['ability'][0] <= 1
    assert row['mean']['gain'] == 0
  # One base policy: its ability is the same.
  abilities = {row['ability'][0] for row in record['rows'].values()}
  assert len(abilities) == 1
  assert (path / 'study.png').read_bytes().startswith(b'\x89PNG')
  assert (path / 'study.csv').read_text().startswith('group,method,seed,acc_t1')
  # Of a budget of 4.
  for value, steps in ((0, [0, 4]), (3, [3, 1])):
    run = path / 'seed0' / f'score-stage1_steps={value}'
    found = [len(small_run.metrics(run, s)) for s in ('stage1', 'stage2')]
    assert found == steps


def test_what_is_varied():
  settings = command_line.parse_settings([])
  varied = studies.vary('copy_share', settings, 0.9)
  assert varied.pretrain.copy_share == 0.9
  # Another base policy; one budget.
  planned = many_runs.PlannedRun(settings)
  assert not planned.has_base_of(many_runs.PlannedRun(varied))
  varied = studies.vary('stage1_steps', settings, 150)
  assert (varied.steps_stage1, varied.steps_stage2) == (150, 50)
  assert planned.has_base_of(many_runs.PlannedRun(varied))
  varied = studies.vary('train_problems', settings, 64.0)
  assert varied.train_problems == 64
  assert planned.has_base_of(many_runs.PlannedRun(varied))


def test_defaults_are_possible():
  for sweep in studies.SWEEPS:
    options, settings = studies.parse([f'--sweep={sweep}'])
    planned = studies.plan_runs(options, settings, pathlib.Path('study'))
    assert len({run.settings.run_dir for run in planned}) == len(planned)
    assert len(planned) == 2 * len(studies.values(options)) * len(
      studies.method_names(options)
    )


@pytest.mark.parametrize(
  ('arguments', 'says'),
  [
    (['--values=a'], 'numbers with commas between'),
    (['--values=1.5'], 'of copy_share lie between 0 and 1'),
    (['--sweep=stage1_steps', '--values=300'], 'lie between 0 and 200'),
    (['--sweep=train_problems', '--values=0'], 'lie between 1 and inf'),
    (['--seeds=0'], 'at least 1'),
    (['--method=score'], '--method is set for each run'),
  ],
)
def test_mistakes_are_rejected(arguments, says, capsys):
  with pytest.raises(SystemExit) as stop:
    studies.parse(arguments)
  assert stop.value.code == 2
  assert says in capsys.readouterr().err
