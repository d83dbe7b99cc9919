"""Adapters against merged weights, the chain rule and counts by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.models import layers, lora, model_config, transformer
from tests.support import exports, small_models

# Two stacked layers; a pattern of two layers, stacked, and one layer more.
NAMES = ('gemma1', 'gemma2')


@functools.cache
def plain(name):
  """A small policy without adapters."""
  return exports.random_params(small_models.CONFIGS[name])


@functools.cache
def attached(name, **options):
  """A small policy with adapters that are not zero."""
  base = plain(name)
  return lora.attach(base, small_models.adapters(base, **options))


@functools.partial(jax.jit, static_argnames=('name', 'unroll', 'remat'))
def hidden_states(params, name, unroll, remat=False):
  config = small_models.CONFIGS[name]
  tokens = jax.random.randint(jax.random.key(4), (2, 9), 0, config.vocab_size)
  positions = jnp.broadcast_to(jnp.arange(9), tokens.shape)
  hidden, _ = transformer.forward(
    config, params, tokens, positions, unroll=unroll, remat=remat
  )
  return hidden


@pytest.mark.parametrize(
  ('name', 'unroll'), [('gemma1', False), ('gemma2', False), ('gemma2', True)]
)
def test_attached_and_merged_are_the_same_policy(name, unroll):
  tree = attached(name)
  found = hidden_states(tree, name, unroll)
  merged = hidden_states(lora.merge(tree), name, unroll)
  # f32; hidden states after the final norm are of the order of 1.
  np.testing.assert_allclose(found, merged, atol=1e-5, rtol=1e-5)
  base = hidden_states(lora.base_of(tree), name, unroll)
  assert np.abs(found - base).max() > 0.1


def test_unstacked_layers_keep_their_adapters():
  tree = attached('gemma2')
  apart = transformer.unstack(tree)
  # Layer 2 of the pattern (local, global) is the one left over.
  for layer, where in enumerate(
    [('pattern', '0', 0), ('pattern', '1', 0), ('remainder', '0', ...)]
  ):
    part, place, index = where
    found = apart['layers'][str(layer)]['attention']['q'].adapter
    expected = tree[part][place]['attention']['q'].adapter
    np.testing.assert_array_equal(found.a, expected.a[index])
    np.testing.assert_array_equal(found.b, expected.b[index])
  np.testing.assert_allclose(
    hidden_states(apart, 'gemma2', True),
    hidden_states(tree, 'gemma2', True),
    atol=1e-6,
  )


def test_an_adapted_mlp_by_hand():
  # x = (1, 2): gate is 1 + 2 = 3. With A = (2, -1)', x A = 0 and up is 3 too;
  # with A = (2, 1)', x A = 4 and up is 3 + 0.5 * 4 * 4 = 11. gelu_tanh(3) =
  # 2.996363, and down doubles: 2 * 3 * 2.996363 and 2 * 11 * 2.996363.
  config = model_config.ModelConfig(
    vocab_size=8,
    width=2,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=2,
    mlp_width=1,
  )
  x = jnp.array([[[1.0, 2.0]]])
  for a, expected in (([2.0, -1.0], 17.978178), ([2.0, 1.0], 65.919986)):
    adapter = lora.Adapter(jnp.array(a)[:, None], jnp.array([[4.0]]), 0.5)
    params = {
      'gate': jnp.ones((2, 1)),
      'up': lora.Adapted(jnp.ones((2, 1)), adapter),
      'down': jnp.full((1, 2), 2.0),
    }
    found = layers.Mlp(config).apply({'params': params}, x)
    np.testing.assert_allclose(found, np.full((1, 1, 2), expected), rtol=1e-6)


@pytest.mark.parametrize('name', NAMES)
def test_fresh_adapters_change_no_bit(name):
  base = plain(name)
  fresh = lora.init_adapters(base, jax.random.key(2), rank=4)
  np.testing.assert_array_equal(
    hidden_states(lora.attach(base, fresh), name, False),
    hidden_states(base, name, False),
  )


@pytest.mark.parametrize('name', NAMES)
def test_the_gradient_is_the_chain_rule(name):
  # y = x (W + s A B), G = dL / dW at the merged weights: dL/dA = s G B',
  # dL/dB = s A' G, layer by layer.
  tree = attached(name, alpha=6.0)  # s = 6 / 4
  base, adapters = lora.base_of(tree), lora.adapters_of(tree)

  def loss(params, unroll, remat):
    return jnp.mean(jnp.sin(3 * hidden_states(params, name, unroll, remat)))

  found = jax.grad(lambda a: loss(lora.attach(base, a), False, True))(adapters)
  whole = jax.grad(lambda p: loss(p, True, False))(lora.merge(tree))
  paths = jax.tree_util.tree_leaves_with_path(
    found, is_leaf=lambda leaf: isinstance(leaf, lora.Adapter)
  )
  stacks = (*whole['pattern'], *whole.get('remainder', {}))
  assert len(paths) == 7 * len(stacks)
  for path, gradient in paths:
    keys = [entry.key for entry in path]
    g, adapter = whole, adapters
    for key in keys:
      g, adapter = g[key], adapter[key]
    stacked = g.ndim == 3
    for layer in range(g.shape[0]) if stacked else (...,):
      np.testing.assert_allclose(
        gradient.a[layer], 1.5 * g[layer] @ adapter.b[layer].T, atol=2e-5
      )
      np.testing.assert_allclose(
        gradient.b[layer], 1.5 * adapter.a[layer].T @ g[layer], atol=2e-5
      )
    assert np.abs(gradient.a).max() > 1e-4


def test_numbers_of_parameters_by_hand():
  # Gemma 2 in miniature: width 24, 4 heads and 2 KV heads of 10, MLP 40. Rank 3
  # of q, o, gate, up, down (24 and 40): 3 * 64 = 192 each; of k, v (24 and 20):
  # 3 * 44 = 132 each. 5 * 192 + 2 * 132 = 1224 a layer, three layers.
  base = plain('gemma2')
  adapters = lora.init_adapters(base, jax.random.key(0), rank=3)
  assert sum(leaf.size for leaf in jax.tree.leaves(adapters)) == 3 * 1224
  some = lora.init_adapters(
    base, jax.random.key(0), rank=3, targets=('q', 'v', 'down')
  )
  assert sum(leaf.size for leaf in jax.tree.leaves(some)) == 3 * (384 + 132)
  assert set(some['pattern']['0']) == {'attention', 'mlp'}
  assert set(some['pattern']['0']['attention']) == {'q', 'v'}
  # A projection's draw does not depend on its neighbours.
  one, other = (t['remainder']['0']['mlp']['down'].a for t in (some, adapters))
  np.testing.assert_array_equal(one, other)


def test_how_adapters_start():
  base = {
    'pattern': {'0': {'attention': {n: jnp.zeros((3, 400, 50)) for n in 'qk'}}}
  }
  fresh = lora.init_adapters(base, jax.random.key(0), rank=40, alpha=10.0)
  q, k = (fresh['pattern']['0']['attention'][name] for name in 'qk')
  assert q.scale == 0.25
  assert q.a.dtype == q.b.dtype == jnp.float32
  assert (q.a.shape, q.b.shape) == ((3, 400, 40), (3, 40, 50))
  assert not q.b.any()
  # 16,000 draws a layer: the deviation, 1 / sqrt(400), is known to 0.6 %.
  for layer in (*q.a, *k.a):
    np.testing.assert_allclose(layer.std(), 0.05, rtol=0.03)
  assert len({float(layer[0, 0]) for layer in (*q.a, *k.a)}) == 6
  # Shapes alone are enough to know the tree, alpha included.
  shapes = jax.eval_shape(
    lambda tree: lora.init_adapters(
      tree, jax.random.key(0), rank=40, alpha=10.0
    ),
    base,
  )
  assert jax.tree.structure(shapes) == jax.tree.structure(fresh)
  for found, leaf in zip(jax.tree.leaves(shapes), jax.tree.leaves(fresh)):
    assert (found.shape, found.dtype) == (leaf.shape, leaf.dtype)


def test_adapters_come_off_and_are_replaced():
  base = plain('gemma3')
  one = small_models.adapters(base, seed=1)
  other = small_models.adapters(base, seed=2, targets=('o',))
  tree = lora.attach(base, one)
  pairs = zip(
    jax.tree.leaves(lora.base_of(tree)), jax.tree.leaves(base), strict=True
  )
  # The very arrays: no copy.
  assert all(a is b for a, b in pairs)
  assert lora.base_of(base) is not tree
  for found, expected in (
    (lora.adapters_of(tree), one),
    (lora.adapters_of(lora.complete(other, tree)), other),
  ):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    assert all(a is b for a, b in pairs)
  # What is no adapters is the policy itself.
  assert lora.complete(base, tree) is base
  assert lora.is_adapters(one)
  assert not lora.is_adapters(tree)
  assert not lora.is_adapters({})
  np.testing.assert_array_equal(
    lora.merge(base)['embedding'], base['embedding']
  )


def test_merged_weights_are_rounded_once():
  # bf16 numbers just above 1 are 2^-7 = 4 / 512 apart: W = 1 with s A B =
  # 3 / 512 becomes 1 + 2^-7 there, and stays 1 + 3 / 512 in f32.
  adapter = lora.Adapter(jnp.full((1, 1), 3.0), jnp.ones((1, 1)), 1 / 512)
  tree = {'q': lora.Adapted(jnp.ones((1, 1), jnp.bfloat16), adapter)}
  narrow = lora.merge(tree)['q']
  assert narrow.dtype == jnp.bfloat16
  assert float(narrow[0, 0]) == 1 + 2**-7
  wide = lora.merge(tree, jnp.float32)['q']
  assert wide.dtype == jnp.float32
  assert float(wide[0, 0]) == 1 + 3 / 512


def test_axes_follow_the_base():
  config = small_models.CONFIGS['gemma2']
  adapters = small_models.adapters(plain('gemma2'))
  axes = lora.logical_axes(transformer.logical_axes(config), adapters)
  jax.tree.map(
    lambda array, names: (
      None if array.ndim == len(names) else pytest.fail(str(names))
    ),
    adapters,
    axes,
  )
  k = axes['pattern']['1']['attention']['k']
  assert k.a == ('layers', 'embed', None)
  assert k.b == ('layers', None, 'kv_heads')
  down = axes['remainder']['0']['mlp']['down']
  assert (down.a, down.b) == (('mlp', None), (None, 'embed'))
  whole = lora.logical_axes(
    transformer.logical_axes(config), attached('gemma2')
  )
  assert lora.base_of(whole) == transformer.logical_axes(config)
  assert lora.adapters_of(whole) == axes


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'rank': 0}, 'rank=0'),
    ({'rank': 11}, 'rank=11'),
    ({'rank': 2, 'alpha': 0.0}, 'alpha=0.0'),
    ({'rank': 2, 'alpha': float('nan')}, 'alpha=nan'),
    ({'rank': 2, 'targets': ()}, 'targets='),
    ({'rank': 2, 'targets': ('q', 'qkv')}, 'targets='),
  ],
)
def test_impossible_adapters_are_rejected(options, message):
  with pytest.raises(ValueError, match=message):
    lora.init_adapters(plain('gemma1'), jax.random.key(0), **options)


def test_adapters_of_another_model_are_rejected():
  adapters = small_models.adapters(plain('gemma2'))
  with pytest.raises(ValueError, match='pattern/0/attention/k'):
    lora.attach(plain('gemma1'), adapters)
  with pytest.raises(ValueError, match='nothing'):
    lora.attach({'embedding': jnp.ones((2, 2))}, adapters)
