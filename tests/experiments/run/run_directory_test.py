"""Run directories: continued, refused, locked."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from experiments.config import fields, groups, schema
from experiments.run import run_directory

ROOT = pathlib.Path(__file__).resolve().parents[3]
SETTINGS = schema.Settings()
DATA = {'train': 'abc', 'test': 'def'}


@pytest.fixture
def run(tmp_path):
  """A run that was begun with SETTINGS and DATA."""
  run = run_directory.RunDirectory(tmp_path / 'run')
  with run.lock():
    assert not run.begin(SETTINGS, DATA)
  (run.stage('base').checkpoints / '1').mkdir(parents=True)
  return run


def test_config_holds_what_is_needed_to_repeat_it(run):
  config = json.loads(run.config.read_text())
  assert config['settings']['model']['width'] == 64
  assert config['data'] == DATA
  assert config['versions']['jax'].count('.') == 2
  assert run.read_settings() == SETTINGS


def test_config_holds_the_variables_that_compilers_read(tmp_path, monkeypatch):
  monkeypatch.setenv('LIBTPU_INIT_ARGS', '--xla_enable_async_all_gather=true')
  monkeypatch.setenv('XLA_FLAGS', '')
  run = run_directory.RunDirectory(tmp_path / 'run')
  with run.lock():
    run.begin(SETTINGS, DATA)
  assert json.loads(run.config.read_text())['environment'] == {
    'LIBTPU_INIT_ARGS': '--xla_enable_async_all_gather=true',
    'XLA_FLAGS': '',
  }


def test_a_run_that_has_made_nothing_may_change_its_mind(tmp_path):
  run = run_directory.RunDirectory(tmp_path / 'run')
  with run.lock():
    run.begin(SETTINGS, DATA)
    run.tokenizer.write_bytes(b'of other settings')
    source = run.stage('base').source
    source.parent.mkdir()
    source.write_text('{"fingerprint": "of another checkpoint"}')
    changed = dataclasses.replace(SETTINGS, max_prompt_tokens=7)
    assert not run.begin(changed, DATA)
  assert run.read_settings() == changed
  assert not run.tokenizer.exists()
  assert not source.exists()


@pytest.mark.parametrize('made', ['results.json', 'evaluations/tenfold.json'])
def test_an_evaluated_checkpoint_may_not(tmp_path, made):
  run = run_directory.RunDirectory(tmp_path / 'run')
  with run.lock():
    run.begin(SETTINGS, DATA)
    (run.path / made).parent.mkdir(exist_ok=True)
    (run.path / made).write_text('{}')
    changed = dataclasses.replace(SETTINGS, max_prompt_tokens=7)
    with pytest.raises(run_directory.RunError, match='max-prompt-tokens'):
      run.begin(changed, DATA)


def test_the_same_settings_continue(run):
  assert run.begin(SETTINGS, DATA)


@pytest.mark.parametrize(
  'changes',
  [
    {'checkpoint_every': 7},
    {'run_dir': 'elsewhere'},
    {'steps_stage2': 5000},
    {'steps_stage1': 5000},
  ],
)
def test_settings_that_do_not_matter_may_change(run, changes):
  changed = dataclasses.replace(SETTINGS, **changes)
  assert run.begin(changed, DATA)
  # Evaluation reads the newest.
  assert run.read_settings() == changed


def test_settings_that_matter_may_not(run):
  changed = dataclasses.replace(
    SETTINGS,
    alpha=3.0,
    normalize_bonus=True,
    model=groups.Model(kv_heads=2),
  )
  with pytest.raises(run_directory.RunError) as error:
    run.begin(changed, DATA)
  message = str(error.value)
  assert '--alpha: 10.0 in the run, 3.0 now' in message
  assert '--model.kv-heads: 4 in the run, 2 now' in message
  assert (
    '--alpha=10.0 --no-normalize-bonus --model.kv-heads=4, or start another'
    in message
  )
  assert run.read_settings() == SETTINGS


def test_stage_one_is_settled_once_stage_two_has_begun(run):
  (run.stage('stage2').checkpoints / '1').mkdir(parents=True)
  changed = dataclasses.replace(SETTINGS, steps_stage1=5000)
  with pytest.raises(run_directory.RunError, match='--steps-stage1'):
    run.begin(changed, DATA)


@pytest.mark.parametrize(
  'data', [{'train': 'abc', 'test': 'xyz'}, {'train': 'abc'}]
)
def test_other_data_is_rejected(run, data):
  with pytest.raises(run_directory.RunError, match='test has digest def'):
    run.begin(SETTINGS, data)


def test_other_versions_are_named(run, caplog):
  config = json.loads(run.config.read_text())
  config['versions']['jax'] = '0.1.0'
  run.written.replace_json(run.config, config)
  assert run.begin(SETTINGS, DATA)
  assert 'jax was 0.1.0' in caplog.text


def test_another_directory_is_not_written_to(tmp_path):
  (tmp_path / 'thesis.tex').write_text('mine')
  run = run_directory.RunDirectory(tmp_path)
  with pytest.raises(run_directory.RunError, match='thesis.tex'), run.lock():
    pytest.fail('it was locked')
  assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


def test_a_file_is_no_directory(tmp_path):
  (tmp_path / 'file').write_text('mine')
  run = run_directory.RunDirectory(tmp_path / 'file')
  with pytest.raises(run_directory.RunError, match='file'), run.lock():
    pytest.fail('it was locked')


@pytest.mark.parametrize('text', ['{"base": ', '[1]', '{"base": {}}'])
def test_damaged_results(run, text):
  run.write_results({'base': {'problems': 3}})
  assert run.read_results()['base']['problems'] == 3
  run.results.write_text(text)
  with pytest.raises(run_directory.RunError, match=r'results\.json is damaged'):
    run.read_results()


def damage_config(run, how):
  """Damages config.json; its bytes before."""
  before = run.config.read_bytes()
  if how == 'remove':
    run.config.unlink()
  else:
    # A setting of another value is as readable as before.
    text = {'flip': before.replace(b'"seed": 0', b'"seed": 1')}.get(how, b'[5]')
    assert text != before
    run.config.write_bytes(text)
  return before


@pytest.mark.parametrize('how', ['flip', 'of another type', 'remove'])
def test_a_damaged_config(run, how, caplog):
  before = damage_config(run, how)
  with pytest.raises(run_directory.RunError, match='config.json is damaged'):
    run.read_settings()
  # Other flags would make another run.
  changed = dataclasses.replace(SETTINGS, checkpoint_every=7)
  with (
    run.lock(),
    pytest.raises(run_directory.RunError, match='pass the flags'),
  ):
    run.begin(changed, DATA)
  # The same make the same bytes.
  with run.lock():
    assert run.begin(SETTINGS, DATA)
  assert 'it is made again' in caplog.text
  assert run.config.read_bytes() == before


def test_lists_are_continued_as_they_are_typed():
  assert fields.as_flag('--lora.targets', ('q', 'k')) == ('--lora.targets q k')
  assert fields.as_flag('--reward', ()) == '--reward'


def test_no_run_and_no_config(tmp_path, run):
  missing = run_directory.RunDirectory(tmp_path / 'missing')
  with pytest.raises(run_directory.RunError, match='make one with: python -m'):
    missing.read_settings()
  assert not missing.path.exists()
  # Of a version that wrote no digests.
  (run.path / 'written.json').unlink()
  for text in ('{"settings": {', '[]', '7', '{"settings": 3, "data": {}}'):
    run.config.write_text(text)
    with pytest.raises(run_directory.RunError, match='config.json is damaged'):
      run.begin(SETTINGS, DATA)
  config = {'settings': {'gamma': 1}, 'versions': {}, 'data': {}}
  run.config.write_text(json.dumps(config))
  with pytest.raises(run_directory.RunError, match='gamma'):
    run.read_settings()


def test_stages(run):
  stage = run.stage('stage1')
  assert not stage.has_begun()
  assert not stage.is_finished(0)
  (stage.checkpoints / '10').mkdir(parents=True)
  assert stage.has_begun()
  stage.mark_finished(90)
  assert stage.is_finished(90)
  # Made longer, it is not finished any more.
  assert not stage.is_finished(91)


TRAINER = """
import sys, time
from experiments.run import run_directory
with run_directory.RunDirectory(sys.argv[1]).lock():
  print('locked', flush=True)
  time.sleep(60)
"""


def test_two_trainers(run):
  trainer = subprocess.Popen(
    [sys.executable, '-c', TRAINER, run.path],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
  )
  try:
    assert trainer.stdout.readline() == 'locked\n'
    with (
      pytest.raises(run_directory.RunError, match=f'process {trainer.pid} on'),
      run.lock(),
    ):
      pytest.fail('two trainers hold the lock')
  finally:
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.communicate()
  # The dead trainer's lock is no obstacle, though its name is still there.
  assert f'process {trainer.pid} on' in (run.path / 'lock').read_text()
  with run.lock():
    assert f'process {os.getpid()} on' in (run.path / 'lock').read_text()
  with run.lock():
    pass


def test_where_the_parts_of_a_run_in_a_bucket_are():
  directory = run_directory.RunDirectory('gs://bucket/runs/one/')
  assert str(directory) == 'gs://bucket/runs/one'
  checkpoints = directory.stage('stage1').checkpoints
  assert str(checkpoints) == 'gs://bucket/runs/one/stage1/checkpoints'
  # Processes with a mirror each share what they compile.
  assert str(directory.compiled) == 'gs://bucket/runs/one/compiled'
  # Real files, of this process.
  assert directory.path.is_dir()
  assert directory.config.parent == directory.path
  shown = directory.shown(directory.stage('stage1').metrics)
  assert str(shown) == 'gs://bucket/runs/one/stage1/metrics.jsonl'
