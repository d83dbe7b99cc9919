"""Parameters written block by block, on one device and on several."""

import jax
from jax import sharding
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.interop import param_builder
from score_jax.models import transformer
from tests.support import exports, small_models

CONFIG = small_models.CONFIGS['gemma2']  # one whole pattern, one layer more
PARAMS = exports.random_params(CONFIG)
SPECS = {
  'replicated': lambda p: (),
  'layers and rows': lambda p: ('fsdp', 'tensor') if p.ndim == 3 else (),
  'columns': lambda p: (
    (*(None,) * (p.ndim - 1), 'tensor') if p.shape[-1] % 4 == 0 else ()
  ),
}


def _shardings(spec):
  mesh = jax.make_mesh(
    (1, 4), ('fsdp', 'tensor'), axis_types=(sharding.AxisType.Auto,) * 2
  )
  return jax.tree.map(
    lambda p: sharding.NamedSharding(
      mesh, sharding.PartitionSpec(*SPECS[spec](p))
    ),
    param_builder.param_shapes(CONFIG),
  )


def _fill(builder, width=64):
  """Writes every layer's every leaf, some columns at a time."""
  layers = {None: {k: PARAMS[k] for k in ('embedding', 'final_norm')}}
  for layer in range(CONFIG.num_layers):
    layers[layer] = transformer.layer_params(CONFIG, PARAMS, layer)
  for layer, leaves in layers.items():
    for path, leaf in jax.tree.leaves_with_path(leaves):
      name = param_builder.path_name(path)
      assert param_builder.leaf_shape(CONFIG, layer, name) == leaf.shape
      for start in range(0, leaf.shape[-1], width):
        block = np.asarray(leaf)[..., start : start + width]
        index = (*(0,) * (leaf.ndim - 1), start)
        builder.write(layer, name, index, block)


@pytest.mark.parametrize('spec', [None, *SPECS])
def test_blocks_become_the_whole(spec):
  shardings = None if spec is None else _shardings(spec)
  builder = param_builder.ParamBuilder(CONFIG, jnp.float32, shardings)
  # Blocks that end inside of shards, and a last one that is smaller.
  _fill(builder, 15)
  found = builder.finish()
  assert jax.tree.structure(found) == jax.tree.structure(PARAMS)
  jax.tree.map(np.testing.assert_array_equal, found, PARAMS)
  if spec is not None:
    jax.tree.map(lambda p, s: _assert_is(p.sharding, s), found, shardings)


def _assert_is(found, expected):
  assert found == expected


def test_without_shardings_nothing_is_committed():
  """As fresh parameters are: jit may still move them to a mesh."""
  builder = param_builder.ParamBuilder(CONFIG)
  _fill(builder)
  assert not any(p.committed for p in jax.tree.leaves(builder.finish()))


def test_numbers_are_rounded_to_the_dtype():
  builder = param_builder.ParamBuilder(CONFIG, jnp.bfloat16)
  _fill(builder)
  jax.tree.map(
    lambda a, b: np.testing.assert_array_equal(a, b.astype(jnp.bfloat16)),
    builder.finish(),
    PARAMS,
  )


@pytest.mark.parametrize('layer', [0, 1, 2])
def test_read_block(layer):
  """What `write` puts; layer 2 is left over after the pattern."""
  whole = transformer.layer_params(CONFIG, PARAMS, layer)['mlp']['up']
  block = param_builder.read_block(
    CONFIG, PARAMS, layer, 'mlp/up', (3, 5), (4, 6), jnp.bfloat16
  )
  np.testing.assert_array_equal(block, whole[3:7, 5:11].astype(jnp.bfloat16))


def test_locate():
  # Pattern of two, three layers: one repetition, and the third is left over.
  locate = param_builder.locate
  assert locate(CONFIG, 1, 'mlp/up') == ('pattern/1/mlp/up', 0)
  assert locate(CONFIG, 2, 'mlp/up') == ('remainder/0/mlp/up', None)
  assert locate(CONFIG, None, 'embedding') == ('embedding', None)


def test_row_blocks():
  # 7 rows of 10 bytes, 25 at a time: two rows a block, one in the last.
  blocks = param_builder.row_blocks(7, 10, 25)
  assert list(blocks) == [(0, 2), (2, 4), (4, 6), (6, 7)]
  assert list(param_builder.row_blocks(2, 100, 25)) == [(0, 1), (1, 2)]
  assert not list(param_builder.row_blocks(0, 10))
