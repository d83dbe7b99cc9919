"""Import of Google's Orbax layout: every number in its place, or a refusal."""

import dataclasses

import chex
import jax
from jax import sharding
import jax.numpy as jnp
import pytest

from score_jax.interop import orbax_import
from tests.support import exports, gm_checkpoints, small_models

# As many key-value heads as heads, as in Gemma 1 7B: q, k and v are fused.
FUSED = dataclasses.replace(small_models.CONFIGS['gemma1'], num_kv_heads=4)
CONFIGS = small_models.CONFIGS | {'fused': FUSED}


def _model(name):
  return CONFIGS[name], exports.random_params(CONFIGS[name])


@pytest.mark.parametrize(
  ('name', 'style', 'transpose_gating'),
  [
    ('gemma1', 'flat', False),
    ('fused', 'flat', False),
    ('gemma2', 'nested', True),
    ('gemma3', 'trainer', True),
  ],
)
def test_every_tensor_is_in_its_place(name, style, transpose_gating, tmp_path):
  config, params = _model(name)
  gm_checkpoints.write(
    tmp_path / 'c',
    config,
    params,
    style=style,
    transpose_gating=transpose_gating,
    padded_vocab=config.vocab_size + 3,
  )
  found = orbax_import.load(tmp_path / 'c', config)
  chex.assert_trees_all_equal(found, params)


def test_dtypes(tmp_path):
  config, params = _model('gemma3')
  rounded = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
  gm_checkpoints.write(tmp_path / 'bf16', config, params, dtype=jnp.bfloat16)
  gm_checkpoints.write(tmp_path / 'f32', config, params)
  for path, dtype in (('bf16', jnp.float32), ('f32', jnp.bfloat16)):
    found = orbax_import.load(tmp_path / path, config, dtype=dtype)
    assert {p.dtype for p in jax.tree.leaves(found)} == {jnp.dtype(dtype)}
    chex.assert_trees_all_equal(
      jax.tree.map(lambda p: p.astype(jnp.bfloat16), found), rounded
    )


def test_shardings(tmp_path):
  config, params = _model('gemma2')
  gm_checkpoints.write(tmp_path / 'c', config, params)
  mesh = jax.make_mesh((4,), ('fsdp',), axis_types=(sharding.AxisType.Auto,))
  last = sharding.NamedSharding(
    mesh, sharding.PartitionSpec(None, None, 'fsdp')
  )
  everywhere = sharding.NamedSharding(mesh, sharding.PartitionSpec())
  shardings = jax.tree.map(
    lambda p: last if p.ndim == 3 and p.shape[2] % 4 == 0 else everywhere,
    params,
  )
  found = orbax_import.load(tmp_path / 'c', config, shardings=shardings)
  chex.assert_trees_all_equal(jax.device_get(found), jax.device_get(params))
  up = found['pattern']['0']['mlp']['up']
  assert {s.data.shape for s in up.addressable_shards} == {(1, 24, 10)}


def _vision(tensors):
  tensors['embedder/mm_input_projection/w'] = jnp.zeros((2, 2))
  tensors['embedder/mm_soft_embedding_norm/scale'] = jnp.zeros(2)
  tensors['SigLiPFromPatches_0/siglip_encoder/embedding/kernel'] = jnp.zeros(2)


def test_vision_towers_are_left_out(tmp_path):
  config, params = _model('gemma3')
  gm_checkpoints.write(tmp_path / 'c', config, params, change=_vision)
  chex.assert_trees_all_equal(orbax_import.load(tmp_path / 'c', config), params)


LINEAR = 'layer_1/mlp/linear'


def _drop(tensors):
  del tensors[LINEAR]


def _add(tensors):
  tensors['layer_9/mlp/linear'] = tensors[LINEAR]


def _transpose(tensors):
  tensors[LINEAR] = tensors[LINEAR].T


def _quantize(tensors):
  tensors[LINEAR] = tensors[LINEAR].astype(jnp.int8)


def _shorten(tensors):
  name = 'embedder/input_embedding'
  tensors[name] = tensors[name][:60]


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (_drop, r'layer_1/mlp/linear is missing'),
    (_add, r'layer_9/mlp/linear is not part of the model'),
    (_transpose, r'layer_1/mlp/linear is \[24, 40\], expected \[40, 24\]'),
    (_quantize, r'layer_1/mlp/linear holds int8, expected one of float32'),
    (_shorten, r'input_embedding is \[60, 24\], expected \[61, 24\]'),
  ],
)
def test_wrong_tensors_are_named(change, message, tmp_path):
  config, params = _model('gemma1')
  gm_checkpoints.write(tmp_path / 'c', config, params, change=change)
  with pytest.raises(ValueError, match=message) as error:
    orbax_import.load(tmp_path / 'c', config)
  assert len(str(error.value).splitlines()) == 2  # and nothing else


def test_another_generation(tmp_path):
  config, params = _model('gemma3')
  gm_checkpoints.write(tmp_path / 'c', config, params)
  with pytest.raises(ValueError, match='_key_norm/scale is not part of'):
    orbax_import.load(
      tmp_path / 'c', dataclasses.replace(config, qk_norm=False)
    )


def test_a_square_mlp_is_ambiguous(tmp_path):
  config, params = _model('gemma1')
  gm_checkpoints.write(tmp_path / 'c', config, params)
  with pytest.raises(ValueError, match='are both 24: the two layouts'):
    orbax_import.load(tmp_path / 'c', dataclasses.replace(config, mlp_width=24))


def test_a_foreign_checkpoint(tmp_path):
  config, _ = _model('gemma1')
  gm_checkpoints.save(tmp_path / 'c', {'dense': {'kernel': jnp.zeros(2)}})
  with pytest.raises(ValueError, match='no embedder/.*; it has dense/kernel'):
    orbax_import.load(tmp_path / 'c', config)


def test_a_directory_a_tensor(tmp_path):
  """As checkpoints were written before Orbax had one store for all."""
  config, params = _model('gemma2')
  path = gm_checkpoints.write(tmp_path / 'c', config, params, one_store=False)
  chex.assert_trees_all_equal(orbax_import.load(path, config), params)
  # The numbers of one tensor are cut short: it is named.
  tensor = path / 'transformer' / 'layer_1' / 'mlp' / 'linear.w'
  [chunk] = [p for p in tensor.iterdir() if p.name[0] not in '._']
  chunk.write_bytes(chunk.read_bytes()[:-40])
  message = r'layer_1/mlp/linear of .* cannot be read \(.*damaged: fetch it'
  with pytest.raises(ValueError, match=message):
    orbax_import.load(path, config)


@pytest.mark.filterwarnings('ignore:.*:ResourceWarning')
def test_damaged_metadata(tmp_path):
  config, params = _model('gemma1')
  path = gm_checkpoints.write(tmp_path / 'c', config, params)
  (path / '_METADATA').write_text('{')
  with pytest.raises(ValueError, match='metadata of .* cannot be read'):
    orbax_import.load(path, config)
  with pytest.raises(ValueError, match='metadata of .* cannot be read'):
    orbax_import.load(tmp_path, config)
