"""Runs and programs that begin with a checkpoint's name, up to its weights."""

import json

import chex
import pytest

from experiments import convert, train
from experiments.config import command_line
from experiments.evaluations import checkpoint_run
from experiments.planning import workload
from experiments.run import base_model, building, run_directory
from score_jax.interop import hub
from tests.support import exports, stand_in_hub

pytestmark = stand_in_hub.needs('huggingface_hub')
NAME = 'hf:google/tiny'
FLAGS = (
  '--preset=gemma3_270m_gsm8k_colab',
  '--model.name=None',
  f'--init-from={NAME}',
  '--task=arithmetic',
  '--mesh.fsdp=1',
)


@pytest.fixture
def server(tmp_path, monkeypatch):
  """The Hub has a small Gemma 3, google/tiny."""
  exports.make('gemma3').export(tmp_path / 'served/google/tiny')
  with stand_in_hub.talked_to(tmp_path, monkeypatch) as held:
    yield held


def test_a_run_begins_with_a_name(server, tmp_path):
  model = exports.make('gemma3')
  path = tmp_path / 'run'
  settings = command_line.parse_settings([*FLAGS, f'--run-dir={path}'])
  # Neither parsing nor a dry run downloads anything.
  assert train.main([*FLAGS, '--dry-run']) == 0
  assert server.downloads == []
  directory = run_directory.RunDirectory(path)
  with directory.lock():
    run = building.start(settings, directory)
  base_model.note_source(settings, directory)
  assert run.chat_format.style == 'gemma'
  params = base_model.import_weights(settings, run.config)
  chex.assert_trees_all_equal(params, model.params)
  assert sorted(server.downloads) == sorted(set(server.downloads))
  # The run keeps the name, and the revision that it stood for.
  assert directory.read_settings().init_from == NAME
  noted = json.loads(directory.stage('base').source.read_text())
  assert noted['init_from'] == f'{NAME}@{"a" * 40}'

  # The branch has moved on to other weights: the first ones are named.
  hub._download.cache_clear()
  server.revisions[:] = ['b' * 40]
  weights = tmp_path / 'served/google/tiny/model.safetensors'
  weights.write_bytes(weights.read_bytes() + b'0')
  with pytest.raises(run_directory.RunError, match=f'{NAME}@{"a" * 40}.; pass'):
    base_model.note_source(settings, directory)


def test_other_programs(server, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  # The plan of a model that no preset names reads its configuration alone.
  settings = command_line.parse_settings(FLAGS)
  assert workload.model_of(settings).num_layers == 3
  assert server.downloads == ['config.json']
  assert convert.main([f'--from={NAME}', '--to=out', '--verify']) == 0
  assert (tmp_path / 'out/model.safetensors').exists()
  rest = checkpoint_run.begin([*FLAGS, '--attempts=3'])
  assert rest == ['--run-dir=runs/tiny_arithmetic', '--attempts=3']
  # What cannot be had is an error of a line.
  server.gated.add('google/gated')
  (tmp_path / 'served/google/gated').mkdir()
  (tmp_path / 'served/google/gated/config.json').write_text('{}')
  capsys.readouterr()
  for name, says in (('gated', 'HF_TOKEN'), ('unknown', 'no such model')):
    for program, flag in ((convert, '--from'), (train, '--init-from')):
      flags = FLAGS if program is train else ('--to=other',)
      assert program.main([*flags, f'{flag}=hf:google/{name}']) == 2
      [line] = capsys.readouterr().err.splitlines()
      assert f'hf:google/{name}: ' in line
      assert says in line
