"""Export: what was written is read back whole, or nothing was written."""

import dataclasses
import json

import chex
import jax
from jax import sharding
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors

from score_jax.interop import checkpoint_formats, hugging_face_config
from score_jax.models import tokenization, transformer
from tests.support import exports

PADDING = 5


def _export(model, directory, **options):
  options = {'padded_vocab': model.config.vocab_size + PADDING} | options
  return model.export(directory, **options)


def _rounded(params):
  return jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)


@pytest.mark.parametrize('name', exports.NAMES)
def test_round_trip(name, tmp_path):
  model = exports.make(name)
  tokenizer = tokenization.Tokenizer(model.tokenizer)
  exact = _export(model, tmp_path / 'f32')
  found = checkpoint_formats.read_config(exact, tokenizer=tokenizer)
  assert found.vocab_size == model.config.vocab_size
  hugging_face_config.check(model.config, exact)
  chex.assert_trees_all_equal(
    checkpoint_formats.load(exact, model.config), model.params
  )
  short = _export(model, tmp_path / 'bf16', dtype=jnp.bfloat16)
  for dtype in (jnp.bfloat16, jnp.float32):
    loaded = checkpoint_formats.load(short, model.config, dtype=dtype)
    chex.assert_trees_all_equal(_rounded(loaded), _rounded(model.params))
  copy = short / 'tokenizer.model'
  assert copy.read_bytes() == model.tokenizer.read_bytes()


def test_padding_is_zero(tmp_path):
  model = exports.make('gemma1')
  path = _export(model, tmp_path / 'x') / 'model.safetensors'
  with safetensors.safe_open(path, 'numpy') as file:
    table = file.get_tensor('model.embed_tokens.weight')
    assert file.metadata() == {'format': 'pt'}
  rows = model.config.vocab_size
  assert table.shape == (rows + PADDING, model.config.width)
  np.testing.assert_array_equal(table[:rows], model.params['embedding'])
  assert not table[rows:].any()


def test_several_files(tmp_path):
  most = 40_000
  directory = _export(
    exports.make('gemma2'), tmp_path / 'x', max_file_bytes=most
  )
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
  chex.assert_trees_all_equal(
    checkpoint_formats.load(directory, exports.make('gemma2').config),
    exports.make('gemma2').params,
  )


def test_from_shards(tmp_path):
  model = exports.make('gemma3')
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
  chex.assert_trees_all_equal(
    checkpoint_formats.load(directory, model.config), model.params
  )


def test_stop_ids(tmp_path):
  for style, ids in (('gemma', [1, 106]), ('plain', 1)):
    directory = _export(
      exports.make('gemma3'), tmp_path / style, chat_style=style
    )
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
      r'GemmaForCausalLM[\s\S]*attention_softcap: None in .*, 3\.0 in',
    ),
    ({'query_scale': 0.3}, 'query_scale: '),
    ({'layer_pattern': ('local',), 'window': 6}, 'layer_pattern: '),
    ({'num_heads': 5, 'num_kv_heads': 5}, 'num_heads|multiple'),
  ],
)
def test_models_unknown_to_transformers(changes, message, tmp_path):
  """Changes of a Gemma 1."""
  model = exports.make('gemma1')
  with pytest.raises(ValueError, match=message):
    _export(model, tmp_path / 'x', **_changed(model, **changes))
  assert not list(tmp_path.iterdir())


def test_what_makes_no_difference_is_no_obstacle(tmp_path):
  model = exports.make('gemma1')
  changed = _changed(model, window=7, local_rope_base=3.0)
  assert _export(model, tmp_path / 'x', **changed).is_dir()


def test_rejected_arguments(tmp_path):
  model, path = exports.make('gemma1'), tmp_path / 'x'
  (tmp_path / 'existing').mkdir()
  with pytest.raises(FileExistsError, match='existing'):
    _export(model, tmp_path / 'existing')
  with pytest.raises(FileNotFoundError, match='tokenizer'):
    _export(model, path, tokenizer_path=tmp_path / 'no')
  short = model.params | {'embedding': model.params['embedding'][:-1]}
  for options, message in (
    ({'dtype': jnp.float16}, 'float16'),
    ({'padded_vocab': 9}, 'padded_vocab=9'),
    ({'tokenizer_path': exports.tokenizer(pieces=320).path}, 'pieces'),
    ({'params': transformer.unstack(model.params)}, 'tree'),
    ({'params': short}, r'embedding is \[\d+, 24\]'),
  ):
    with pytest.raises(ValueError, match=message):
      _export(model, path, **options)
  assert [p.name for p in tmp_path.iterdir()] == ['existing']


def test_nothing_half_written(tmp_path):
  """A failure in the middle leaves no directory of either name."""
  model = exports.make('gemma1')
  last = jnp.array(model.params['final_norm']['scale'])
  last.delete()  # so that the last tensor cannot be read
  params = model.params | {'final_norm': {'scale': last}}
  with pytest.raises(RuntimeError, match='deleted'):
    _export(model, tmp_path / 'x', params=params)
  assert not list(tmp_path.iterdir())


def test_what_a_killed_export_left_is_replaced(tmp_path):
  left = tmp_path / '.x.partial'
  left.mkdir()
  (left / 'model-00001-of-00002.safetensors').write_text('half')
  directory = _export(exports.make('gemma1'), tmp_path / 'x')
  assert not left.exists()
  assert {p.name for p in directory.iterdir()} == {
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.model',
    'tokenizer_config.json',
  }
