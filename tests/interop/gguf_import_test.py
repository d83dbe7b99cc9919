"""GGUF files: every setting and number in its place; needs the package gguf."""

import dataclasses
import json

import chex
import numpy as np
import pytest

from experiments import convert
from score_jax.interop import checkpoint_formats, gguf_import
from score_jax.models import gemma, tokenization
from tests.support import exports, gguf_files

gguf = gguf_files.gguf
TEXT = 'What is  12 + 7?\n\n<start_of_turn>user\n\té <unused3> 19'


@pytest.fixture(scope='module')
def file(tmp_path_factory):
  """A model of each generation and its file, written once."""
  made = {}

  def write(name):
    if name not in made:
      path = tmp_path_factory.mktemp(name) / 'model.gguf'
      model = gguf_files.model(name)
      gguf_files.write(path, name, model)
      made[name] = model, path
    return made[name]

  return write


@pytest.mark.parametrize('name', exports.NAMES)
def test_settings_and_numbers(name, file):
  model, path = file(name)
  assert checkpoint_formats.identify(path) == 'gguf'
  tokenizer = tokenization.Tokenizer(model.tokenizer)
  config = checkpoint_formats.read_config(path, tokenizer=tokenizer)
  expected = model.config
  assert config.norm_epsilon == pytest.approx(expected.norm_epsilon)
  for field in (
    'width', 'num_layers', 'num_heads', 'num_kv_heads', 'head_dim',
    'mlp_width', 'layer_kinds', 'window', 'qk_norm', 'post_norms',
    'attention_softcap', 'final_softcap', 'local_rope_base',
    'global_rope_base', 'global_rope_scale', 'vocab_size',
  ):  # fmt: skip
    assert getattr(config, field) == getattr(expected, field), field
  assert config.query_scale is None
  params = checkpoint_formats.load(path, config)
  # One was added to the scales of norms and is subtracted again.
  table = params.pop('embedding')
  rest = {k: v for k, v in model.params.items() if k != 'embedding'}
  chex.assert_trees_all_close(params, rest, rtol=0, atol=3e-7)
  # A block of 32 numbers has 127 steps up to its largest, a step in float16.
  source = np.asarray(model.params['embedding'])
  step = np.abs(source).max(axis=1, keepdims=True) / 127
  difference = np.abs(table - source)
  assert (difference <= 0.6 * step).all()
  assert difference.max() > 0


def test_the_27b_models_scale_their_queries_by_width(tmp_path, monkeypatch):
  monkeypatch.setitem(gguf_import._LAYERS_OF_27B, 'gemma2', 7)
  gguf_files.write(tmp_path / 'x.gguf', 'gemma2', gguf_files.model('gemma2'))
  config = gguf_import.read_config(tmp_path / 'x.gguf')
  assert config.query_scale == pytest.approx((32 // 4) ** -0.5)
  real = gemma.CONFIGS['gemma-2-27b'], gemma.CONFIGS['gemma-3-27b']
  assert gguf_import._LAYERS_OF_27B['gemma3'] == real[1].num_layers
  monkeypatch.undo()
  assert gguf_import._LAYERS_OF_27B['gemma2'] == real[0].num_layers


def test_conversion(tmp_path, capsys):
  """The directory has the weights, the tokenizer, the template, the notices."""
  model = gguf_files.model('gemma3')
  source = tmp_path / 'source'
  source.mkdir()
  gguf_files.write(source / 'x.gguf', 'gemma3', model, template='{{ x }}')
  (source / 'NOTICE.md').write_text('terms apply')
  (source / 'GEMMA_TERMS.html').write_text('the terms')
  target = tmp_path / 'target'
  flags = [f'--from={source / "x.gguf"}', f'--to={target}', '--dtype=float32']
  assert convert.main(flags) == 0
  assert 'GGUF checkpoint' in capsys.readouterr().out
  assert (target / 'NOTICE.md').read_text() == 'terms apply'
  assert (target / 'GEMMA_TERMS.html').read_text() == 'the terms'
  config = json.loads((target / 'config.json').read_text())
  assert config['rms_norm_eps'] == pytest.approx(2e-6)
  assert config['eos_token_id'] == [1, 106]  # it came with a template: tuned
  ours = tokenization.Tokenizer(target / 'tokenizer.model')
  expected = tokenization.Tokenizer(model.tokenizer).encode(TEXT)
  assert ours.encode(TEXT) == expected
  found = checkpoint_formats.read_config(target, tokenizer=ours)
  chex.assert_trees_all_equal(
    checkpoint_formats.load(target, found),
    checkpoint_formats.load(source / 'x.gguf', found),
  )
  # Without a template it is a base model. What it is called must fit.
  again = [flags[0], f'--to={tmp_path / "again"}']
  assert convert.main([*again, '--model=gemma-3-1b']) == 2
  assert 'num_layers: 7' in capsys.readouterr().err
  gguf_files.write(source / 'x.gguf', 'gemma3', model)
  gguf_import._open.cache_clear()
  assert convert.main(again) == 0
  assert (tmp_path / 'again' / 'plain_template.jinja').is_file()


def test_files_that_cannot_be_read(file, tmp_path):
  damaged = tmp_path / 'x.gguf'
  damaged.write_bytes(b'something else, and long enough for a header')
  with pytest.raises(ValueError, match='not a GGUF file'):
    gguf_import.read_config(damaged)
  other = gguf.GGUFWriter(tmp_path / 'llama.gguf', 'llama')
  other.write_header_to_file()
  other.write_kv_data_to_file()
  other.write_tensors_to_file()
  other.close()
  with pytest.raises(ValueError, match='architecture llama'):
    gguf_import.read_config(tmp_path / 'llama.gguf')
  # A tensor that the model has not.
  _, path = file('gemma3')
  config = gguf_import.read_config(path)
  fewer = dataclasses.replace(config, qk_norm=False)
  with pytest.raises(ValueError, match='is not part of the model'):
    gguf_import.load(path, fewer)
