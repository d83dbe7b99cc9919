"""Import of safetensors: every number in its place, and nothing else."""

import dataclasses
import json
import pathlib

import chex
import jax
from jax import sharding
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from score_jax.interop import hugging_face_config, hugging_face_weights
from score_jax.models import transformer
from tests.support import random_checkpoints

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
UP = 'model.layers.1.mlp.up_proj.weight'


def _golden(name):
  with np.load(GOLDEN / f'{name}.npz') as file:
    return (
      json.loads(file['config'].item()),
      json.loads(file['shapes'].item()),
      file['vocab_size'].item(),
    )


def _write(directory, name='gemma-3', change=None):
  """A checkpoint whose tensors `change` may alter; returns its model."""
  config, shapes, vocab_size = _golden(name)
  random_checkpoints.write(directory, config, shapes)
  path = directory / 'model.safetensors'
  tensors = safetensors_numpy.load_file(path)
  if change:
    change(tensors)
    safetensors_numpy.save_file(tensors, path)
  return hugging_face_config.read(directory, vocab_size), tensors


@pytest.mark.parametrize('name', ['gemma-1', 'gemma-2', 'gemma-3'])
def test_every_tensor_is_in_its_place(name, tmp_path):
  config, tensors = _write(tmp_path, name)
  params = hugging_face_weights.load(tmp_path, config)
  fresh = jax.eval_shape(
    lambda: transformer.init_params(config, jax.random.key(0))
  )
  assert jax.tree.structure(params) == jax.tree.structure(fresh)
  assert jax.tree.all(
    jax.tree.map(lambda p, f: p.shape == f.shape, params, fresh)
  )
  rows = config.vocab_size
  table = tensors['model.embed_tokens.weight']
  assert len(table) > rows
  np.testing.assert_array_equal(params['embedding'], table[:rows])
  np.testing.assert_array_equal(
    params['final_norm']['scale'], tensors['model.norm.weight']
  )
  used = 2
  for layer in range(config.num_layers):
    found = transformer.layer_params(config, params, layer)
    prefix = f'model.layers.{layer}.'
    for ours, theirs in _NAMES[name].items():
      part, tensor = found, tensors[f'{prefix}{theirs}.weight']
      for key in ours.split('/'):
        part = part[key]
      np.testing.assert_array_equal(part, tensor.T, err_msg=prefix + theirs)
      used += 1
  assert used == len(tensors)


_COMMON = {
  'pre_attention_norm/scale': 'input_layernorm',
  'attention/q': 'self_attn.q_proj',
  'attention/k': 'self_attn.k_proj',
  'attention/v': 'self_attn.v_proj',
  'attention/o': 'self_attn.o_proj',
  'mlp/gate': 'mlp.gate_proj',
  'mlp/up': 'mlp.up_proj',
  'mlp/down': 'mlp.down_proj',
}
_FOUR_NORMS = _COMMON | {
  'post_attention_norm/scale': 'post_attention_layernorm',
  'pre_mlp_norm/scale': 'pre_feedforward_layernorm',
  'post_mlp_norm/scale': 'post_feedforward_layernorm',
}
_NAMES = {
  'gemma-1': _COMMON | {'pre_mlp_norm/scale': 'post_attention_layernorm'},
  'gemma-2': _FOUR_NORMS,
  'gemma-3': _FOUR_NORMS
  | {
    'attention/q_norm/scale': 'self_attn.q_norm',
    'attention/k_norm/scale': 'self_attn.k_norm',
  },
}


def test_bfloat16_files_and_parameters(tmp_path):
  def to_bf16(tensors):
    for name, tensor in tensors.items():
      tensors[name] = tensor.astype(jnp.bfloat16)

  config, _ = _write(tmp_path / 'f32')
  exact = hugging_face_weights.load(tmp_path / 'f32', config)
  _write(tmp_path / 'bf16', change=to_bf16)
  rounded = jax.tree.map(lambda p: p.astype(jnp.bfloat16), exact)
  for dtype in (jnp.bfloat16, jnp.float32):
    params = hugging_face_weights.load(tmp_path / 'bf16', config, dtype=dtype)
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    chex.assert_trees_all_equal(params, rounded)
  params = hugging_face_weights.load(
    tmp_path / 'f32', config, dtype=jnp.bfloat16
  )
  chex.assert_trees_all_equal(params, rounded)


def test_parts_and_prefixes(tmp_path):
  """Several files, the larger Gemma 3's names, a vision tower, a tied head."""
  config, tensors = _write(tmp_path)
  expected = hugging_face_weights.load(tmp_path, config)
  renamed = {
    name.replace('model.', 'language_model.model.', 1): tensor
    for name, tensor in tensors.items()
  }
  renamed['vision_tower.patch.weight'] = np.zeros((2, 2), np.float32)
  renamed['language_model.lm_head.weight'] = tensors[
    'model.embed_tokens.weight'
  ]
  (tmp_path / 'model.safetensors').unlink()
  names = sorted(renamed)
  parts = {'a.safetensors': names[::2], 'b.safetensors': names[1::2]}
  for part, contents in parts.items():
    safetensors_numpy.save_file(
      {name: renamed[name] for name in contents}, tmp_path / part
    )
  weight_map = {n: part for part, contents in parts.items() for n in contents}
  (tmp_path / 'model.safetensors.index.json').write_text(
    json.dumps({'weight_map': weight_map})
  )
  chex.assert_trees_all_equal(
    hugging_face_weights.load(tmp_path, config), expected
  )
  (tmp_path / 'b.safetensors').unlink()
  with pytest.raises(FileNotFoundError, match=r'lacks b\.safetensors'):
    hugging_face_weights.load(tmp_path, config)


def test_shardings(tmp_path):
  config, _ = _write(tmp_path)
  mesh = jax.make_mesh((4,), ('fsdp',), axis_types=(sharding.AxisType.Auto,))
  rows = sharding.NamedSharding(mesh, sharding.PartitionSpec('fsdp'))
  everywhere = sharding.NamedSharding(mesh, sharding.PartitionSpec())
  expected = hugging_face_weights.load(tmp_path, config)
  shardings = jax.tree.map(lambda _: everywhere, expected) | {'embedding': rows}
  params = hugging_face_weights.load(tmp_path, config, shardings=shardings)
  assert params['embedding'].sharding == rows
  shards = {s.data.shape for s in params['embedding'].addressable_shards}
  assert shards == {(config.vocab_size // 4, config.width)}
  chex.assert_trees_all_equal(params, expected)


def _drop(tensors):
  del tensors[UP]


def _add(tensors):
  tensors['model.layers.9.mlp.up_proj.weight'] = tensors[UP]


def _transpose(tensors):
  tensors[UP] = np.ascontiguousarray(tensors[UP].T)


def _quantize(tensors):
  tensors[UP] = tensors[UP].astype(np.int8)


def _untie(tensors):
  tensors['lm_head.weight'] = 2 * tensors['model.embed_tokens.weight']


def _shorten(tensors):
  name = 'model.embed_tokens.weight'
  tensors[name] = tensors[name][:90]


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (_drop, r'layers\.1\.mlp\.up_proj\.weight is missing'),
    (_add, r'layers\.9\.mlp\.up_proj\.weight is not part of the model'),
    (_transpose, r'up_proj\.weight is \[48, 80\], expected \[80, 48\]'),
    (_quantize, r'up_proj\.weight holds I8, expected one of F32'),
    (_untie, r'lm_head\.weight differs from the embedding'),
    (_shorten, r'embed_tokens\.weight is \[90, 48\], expected \[96, 48\]'),
  ],
)
def test_wrong_tensors_are_named(change, message, tmp_path):
  config, _ = _write(tmp_path, change=change)
  with pytest.raises(ValueError, match=message) as error:
    hugging_face_weights.load(tmp_path, config)
  assert len(str(error.value).splitlines()) == 2  # and nothing else


def test_long_lists_are_cut(tmp_path):
  config, tensors = _write(tmp_path)
  safetensors_numpy.save_file(
    {'norm': tensors['model.norm.weight']}, tmp_path / 'model.safetensors'
  )
  with pytest.raises(ValueError, match='does not fit the model') as error:
    hugging_face_weights.load(tmp_path, config)
  # All tensors are missing and one is extra; 20 are listed.
  assert str(error.value).endswith(f'and {len(tensors) + 1 - 20} more')


def test_another_model_is_rejected(tmp_path):
  config, _ = _write(tmp_path)
  other = dataclasses.replace(config, window=9)
  with pytest.raises(ValueError, match='window: 8 in the checkpoint, 9 in'):
    hugging_face_weights.load(tmp_path, other)


def test_a_file_cut_short(tmp_path):
  config, _ = _write(tmp_path)
  path = tmp_path / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match='is damaged or cut short'):
    hugging_face_weights.load(tmp_path, config)
  path.unlink()
  with pytest.raises(FileNotFoundError, match=r'lacks model\.safetensors'):
    hugging_face_weights.load(tmp_path, config)


@pytest.mark.parametrize(
  'text',
  ['{"weight_map": {"a": ', '[]', '{"metadata": {}}', '{"weight_map": 1}'],
)
def test_a_damaged_index(text, tmp_path):
  config, _ = _write(tmp_path)
  index = tmp_path / 'model.safetensors.index.json'
  index.write_text(text)
  message = r'model\.safetensors\.index\.json is damaged .*; fetch it again'
  with pytest.raises(ValueError, match=message):
    hugging_face_weights.load(tmp_path, config)


def test_a_tensor_that_no_file_has(tmp_path):
  """An index may promise it; what counts is what the files hold."""
  config, tensors = _write(tmp_path, change=_drop)
  weight_map = dict.fromkeys([*tensors, UP], 'model.safetensors')
  (tmp_path / 'model.safetensors.index.json').write_text(
    json.dumps({'weight_map': weight_map})
  )
  with pytest.raises(ValueError, match=r'layers\.1\.mlp\.up_proj.* is missing'):
    hugging_face_weights.load(tmp_path, config)
