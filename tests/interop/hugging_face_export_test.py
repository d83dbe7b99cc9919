"""Export: what was written is read back whole, or nothing was written."""

import dataclasses
import json

import jax
from jax import sharding
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors

from score_jax.interop import (
  checkpoint_formats,
  hugging_face_config,
  hugging_face_export,
)
from score_jax.models import tokenization, transformer
from tests.support import exports

PADDING = 5


@pytest.fixture(scope='module')
def models(tmp_path_factory):
  """Each small model by its name, made once."""
  return {
    name: exports.make(name, tmp_path_factory.mktemp(name))
    for name in exports.NAMES
  }


def _export(model, directory, **options):
  arguments = {
    'config': model.config,
    'params': model.params,
    'tokenizer_path': model.tokenizer,
    'chat_style': 'gemma',
    'padded_vocab': model.config.vocab_size + PADDING,
    'dtype': jnp.float32,
  }
  return hugging_face_export.export(directory, **(arguments | options))


def _assert_equal(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
    np.testing.assert_array_equal(a, b)


def _rounded(params):
  return jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)


@pytest.mark.parametrize('name', exports.NAMES)
def test_round_trip(name, models, tmp_path):
  model = models[name]
  tokenizer = tokenization.Tokenizer(model.tokenizer)
  exact = _export(model, tmp_path / 'f32')
  found = checkpoint_formats.read_config(exact, tokenizer=tokenizer)
  assert found.vocab_size == model.config.vocab_size
  hugging_face_config.check(model.config, exact)
  _assert_equal(checkpoint_formats.load(exact, model.config), model.params)
  short = _export(model, tmp_path / 'bf16', dtype=jnp.bfloat16)
  for dtype in (jnp.bfloat16, jnp.float32):
    loaded = checkpoint_formats.load(short, model.config, dtype=dtype)
    _assert_equal(_rounded(loaded), _rounded(model.params))
  copy = short / 'tokenizer.model'
  assert copy.read_bytes() == model.tokenizer.read_bytes()


def test_padding_is_zero(models, tmp_path):
  model = models['gemma1']
  path = _export(model, tmp_path / 'x') / 'model.safetensors'
  with safetensors.safe_open(path, 'numpy') as file:
    table = file.get_tensor('model.embed_tokens.weight')
    assert file.metadata() == {'format': 'pt'}
  rows = model.config.vocab_size
  assert table.shape == (rows + PADDING, model.config.width)
  np.testing.assert_array_equal(table[:rows], model.params['embedding'])
  assert not table[rows:].any()


def test_several_files(models, tmp_path):
  most = 40_000
  directory = _export(models['gemma2'], tmp_path / 'x', max_file_bytes=most)
  index = json.loads((directory / 'model.safetensors.index.json').read_text())
  files = sorted(directory.glob('*.safetensors'))
  assert {f.name for f in files} == set(index['weight_map'].values())
  assert files[0].name == f'model-00001-of-{len(files):05d}.safetensors'
  assert len(files) > 2
  total, names = 0, set()
  for file in files:
    with safetensors.safe_open(file, 'numpy') as opened:
      tensors = {n: opened.get_tensor(n) for n in opened.offset_keys()}
    assert {index['weight_map'][name] for name in tensors} == {file.name}
    size = sum(tensor.nbytes for tensor in tensors.values())
    assert size <= most or len(tensors) == 1
    total, names = total + size, names | tensors.keys()
  assert names == index['weight_map'].keys()
  assert total == index['metadata']['total_size']
  _assert_equal(
    checkpoint_formats.load(directory, models['gemma2'].config),
    models['gemma2'].params,
  )


def test_from_shards(models, tmp_path):
  model = models['gemma3']
  mesh = jax.make_mesh((4,), ('fsdp',), axis_types=(sharding.AxisType.Auto,))
  whole = sharding.NamedSharding(mesh, sharding.PartitionSpec())
  split = sharding.NamedSharding(mesh, sharding.PartitionSpec(None, 'fsdp'))
  params = jax.tree.map(
    lambda p: jax.device_put(
      p, split if p.ndim > 1 and p.shape[1] % 4 == 0 else whole
    ),
    model.params,
  )
  directory = _export(model, tmp_path / 'x', params=params)
  _assert_equal(checkpoint_formats.load(directory, model.config), model.params)


def test_stop_ids(models, tmp_path):
  for style, ids in (('gemma', [1, 106]), ('plain', 1)):
    directory = _export(models['gemma3'], tmp_path / style, chat_style=style)
    for file in ('config.json', 'generation_config.json'):
      assert json.loads((directory / file).read_text())['eos_token_id'] == ids


def _changed(model, **changes):
  config = dataclasses.replace(model.config, **changes)
  return {'config': config, 'params': exports.random_params(config)}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'attention_softcap': 3.0},
      r'GemmaForCausalLM of transformers cannot be this model[\s\S]*'
      r'attention_softcap: None in .*, 3\.0 in the model',
    ),
    ({'query_scale': 0.3}, 'query_scale: '),
    ({'layer_pattern': ('local',), 'window': 6}, 'layer_pattern: '),
    ({'num_heads': 5, 'num_kv_heads': 5}, 'must be a multiple of them'),
  ],
)
def test_models_that_transformers_has_not(changes, message, models, tmp_path):
  """Changes of a Gemma 1."""
  with pytest.raises(ValueError, match=message):
    _export(
      models['gemma1'], tmp_path / 'x', **_changed(models['gemma1'], **changes)
    )
  assert not list(tmp_path.iterdir())


def test_what_makes_no_difference_is_no_obstacle(models, tmp_path):
  changed = _changed(models['gemma1'], window=7, local_rope_base=3.0)
  assert _export(models['gemma1'], tmp_path / 'x', **changed).is_dir()


def test_refusals(models, tmp_path):
  model, path = models['gemma1'], tmp_path / 'x'
  (tmp_path / 'there').mkdir()
  with pytest.raises(FileExistsError, match='is there already; remove it'):
    _export(model, tmp_path / 'there')
  with pytest.raises(ValueError, match='float16: must be one of float32, bf'):
    _export(model, path, dtype=jnp.float16)
  with pytest.raises(ValueError, match='padded_vocab=9 is less than the voc'):
    _export(model, path, padded_vocab=9)
  with pytest.raises(FileNotFoundError, match='no tokenizer model at'):
    _export(model, path, tokenizer_path=tmp_path / 'no')
  other = tmp_path / 'other.model'
  tokenization.train(exports.CORPUS, other, 320)
  with pytest.raises(ValueError, match='pieces, but the model embeds'):
    _export(model, path, tokenizer_path=other)
  with pytest.raises(ValueError, match='not the tree of this model; merge'):
    _export(model, path, params=transformer.unstack(model.params))
  short = model.params | {'embedding': model.params['embedding'][:-1]}
  with pytest.raises(ValueError, match=r'embedding is \[\d+, 24\], the model'):
    _export(model, path, params=short)
  assert {p.name for p in tmp_path.iterdir()} == {'there', 'other.model'}


def test_nothing_half_written(models, tmp_path):
  """A failure in the middle leaves no directory of either name."""
  model = models['gemma1']
  last = jnp.array(model.params['final_norm']['scale'])
  last.delete()  # so that the last tensor cannot be read
  params = model.params | {'final_norm': {'scale': last}}
  with pytest.raises(RuntimeError, match='deleted'):
    _export(model, tmp_path / 'x', params=params)
  assert not list(tmp_path.iterdir())


def test_what_a_killed_export_left_is_replaced(models, tmp_path):
  left = tmp_path / '.x.partial'
  left.mkdir()
  (left / 'model-00001-of-00002.safetensors').write_text('half')
  directory = _export(models['gemma1'], tmp_path / 'x')
  assert not left.exists()
  assert {p.name for p in directory.iterdir()} == {
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.model',
    'tokenizer_config.json',
  }
