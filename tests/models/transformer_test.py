"""The decoder as a whole: one tree, two executions, positions, rounding."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.models import model_config, transformer
from tests.support import exports

SIZES = {
  'vocab_size': 40,
  'width': 24,
  'num_heads': 4,
  'num_kv_heads': 2,
  'head_dim': 10,
  'mlp_width': 32,
}
GEMMA_1 = model_config.ModelConfig(num_layers=2, **SIZES)
GEMMA_2 = model_config.ModelConfig(
  num_layers=3,
  layer_pattern=('local', 'global'),
  window=4,
  post_norms=True,
  attention_softcap=5.0,
  final_softcap=3.0,
  **SIZES,
)
GEMMA_3 = model_config.ModelConfig(
  num_layers=5,
  layer_pattern=('local', 'local', 'global'),
  window=4,
  post_norms=True,
  qk_norm=True,
  global_rope_base=1e6,
  global_rope_scale=8.0,
  **SIZES,
)
CONFIGS = {'gemma-1': GEMMA_1, 'gemma-2': GEMMA_2, 'gemma-3': GEMMA_3}
# Every part of every generation, two whole patterns and a layer more.
ALL = dataclasses.replace(GEMMA_2, num_layers=5, qk_norm=True)


def _tokens(rows=2, length=12):
  return jax.random.randint(jax.random.key(1), (rows, length), 0, 40)


def _positions(tokens):
  return jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)


def _forward(config, params, tokens, positions=None, **kwargs):
  if positions is None:
    positions = _positions(tokens)
  hidden, _ = transformer.forward(config, params, tokens, positions, **kwargs)
  return hidden


def test_scan_and_remat_change_neither_result_nor_gradient():
  params = exports.random_params(ALL)
  tokens = _tokens(2, 7)

  @functools.partial(jax.jit, static_argnums=(1, 2))
  def loss_and_gradient(params, unroll, remat):
    def loss(params):
      hidden = _forward(ALL, params, tokens, unroll=unroll, remat=remat)
      return jnp.mean(jnp.sin(3 * hidden)), hidden

    return jax.value_and_grad(loss, has_aux=True)(params)

  (_, expected), gradient = loss_and_gradient(params, True, False)
  (_, found), other = loss_and_gradient(params, False, True)
  np.testing.assert_allclose(found, expected, atol=2e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), other, gradient
  )
  # A parameter without a gradient would not be part of the model.
  for leaf in jax.tree.leaves(gradient):
    assert jnp.abs(leaf).max() > 0


def test_every_layer_draws_its_own_parameters():
  init = jax.jit(transformer.init_params, static_argnums=0)
  params = init(ALL, jax.random.key(0))
  q = [
    transformer.layer_params(ALL, params, layer)['attention']['q']
    for layer in range(ALL.num_layers)
  ]
  assert len({float(kernel[0, 0]) for kernel in q}) == ALL.num_layers


def test_layer_order_follows_the_pattern():
  params = exports.random_params(GEMMA_3)
  assert set(params['pattern']) == {'0', '1', '2'}
  assert set(params['remainder']) == {'0', '1'}
  # Layers 0 and 3 are place 0 of the pattern, once stacked and once left over.
  first = transformer.layer_params(GEMMA_3, params, 0)
  stacked = jax.tree.map(lambda p: p[0], params['pattern']['0'])
  jax.tree.map(np.testing.assert_array_equal, first, stacked)
  last = transformer.layer_params(GEMMA_3, params, 4)
  jax.tree.map(np.testing.assert_array_equal, last, params['remainder']['1'])


def _reach(config):
  """Positions of a row of 40 that a change of token 10 moves, bool [40]."""
  params = exports.random_params(config)
  tokens = _tokens(1, 40)
  changed = tokens.at[0, 10].set((tokens[0, 10] + 1) % 40)
  both = jnp.concatenate([tokens, changed])
  hidden = jax.jit(lambda tokens: _forward(config, params, tokens))(both)
  return np.abs(hidden[0] - hidden[1]).max(axis=-1) > 0


def test_causal():
  np.testing.assert_array_equal(_reach(GEMMA_3), np.arange(40) >= 10)


def test_local_layers_see_their_window():
  # Each layer looks window - 1 = 3 tokens back, its own being the fourth.
  config = dataclasses.replace(GEMMA_3, layer_pattern=('local',), num_layers=2)
  index = np.arange(40)
  np.testing.assert_array_equal(
    _reach(config), (index >= 10) & (index <= 10 + 2 * 3)
  )


def test_padding_is_seen_by_nobody():
  params = exports.random_params(GEMMA_3)
  tokens = _tokens(2, 12)
  positions = jnp.where(jnp.arange(12) < 7, jnp.arange(12), -1)[None]
  positions = jnp.repeat(positions, 2, axis=0)
  forward = jax.jit(lambda *rows: _forward(GEMMA_3, params, *rows))
  padded = forward(tokens, positions)
  short = forward(tokens[:, :7], positions[:, :7])
  np.testing.assert_allclose(padded[:, :7], short, atol=1e-5)
  assert jnp.isfinite(padded).all()


def test_embedding_scale():
  # sqrt(24) = 4.898979 is 4.90625 in bf16.
  config = dataclasses.replace(GEMMA_1, round_embedding_scale=True)
  params = {'embedding': jnp.ones((40, 24))}
  tokens = jnp.array([[3]])
  exact = transformer.embed(GEMMA_1, params, tokens, jnp.float32)
  rounded = transformer.embed(config, params, tokens, jnp.float32)
  np.testing.assert_allclose(exact, np.full((1, 1, 24), 4.898979), rtol=1e-6)
  np.testing.assert_array_equal(rounded, np.full((1, 1, 24), 4.90625))
  # bf16 activations cannot but round it.
  for c in (GEMMA_1, config):
    found = transformer.embed(c, params, tokens, jnp.bfloat16)
    np.testing.assert_array_equal(found.astype(jnp.float32), rounded)


def test_final_softcap_by_hand():
  # 3 * tanh(12 / 3) = 2.99799; without a cap 12 stays.
  table, hidden = jnp.full((40, 24), 0.5), jnp.ones((1, 24))
  capped = transformer.unembed(GEMMA_2, table, hidden)
  np.testing.assert_allclose(capped, np.full((1, 40), 2.997988), rtol=1e-6)
  np.testing.assert_array_equal(
    transformer.unembed(GEMMA_1, table, hidden), np.full((1, 40), 12.0)
  )


def test_logical_axes_match_the_parameters():
  for config in CONFIGS.values():
    params = jax.eval_shape(
      lambda config=config: transformer.init_params(config, jax.random.key(0))
    )
    axes = transformer.logical_axes(config)
    jax.tree.map(
      lambda p, names: (
        None if p.ndim == len(names) else pytest.fail(str(names))
      ),
      params,
      axes,
      is_leaf=lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct),
    )
    assert axes['embedding'] == ('vocab', 'embed')
    assert axes['pattern']['0']['attention']['q'] == (
      *('layers', 'embed'),
      'heads',
    )


@pytest.mark.parametrize(
  ('change', 'name'),
  [
    ({'num_kv_heads': 3}, 'num_kv_heads=3'),
    ({'head_dim': 5}, 'head_dim=5'),
    ({'layer_pattern': ('local',)}, 'window'),
  ],
)
def test_impossible_models_are_rejected(change, name):
  with pytest.raises(ValueError, match=name):
    dataclasses.replace(GEMMA_1, **change)
