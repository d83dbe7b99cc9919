"""Norms, rotations and the gated MLP against loops and hand-worked numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.models import layers, model_config

SMALL = model_config.ModelConfig(
  vocab_size=8,
  width=4,
  num_layers=1,
  num_heads=2,
  num_kv_heads=1,
  head_dim=6,
  mlp_width=3,
)


def test_rms_norm_by_hand():
  # Mean square of (3, 4) is 12.5; 3 / sqrt(12.5) = 0.8485, 4 / ... = 1.1314;
  # times 1 + scale = (1.5, 0).
  params = {'params': {'scale': jnp.array([0.5, -1.0])}}
  found = layers.RMSNorm().apply(params, jnp.array([[3.0, 4.0]]))
  np.testing.assert_allclose(found, [[1.5 * 0.848528, 0.0]], rtol=1e-6)
  # 1e-6 is added to the mean square: zeros stay zeros, and 1e-3 is halved in
  # square.
  np.testing.assert_array_equal(
    layers.RMSNorm().apply(params, jnp.zeros((1, 2))), jnp.zeros((1, 2))
  )
  small = layers.RMSNorm().apply(params, jnp.full((1, 2), 1e-3))
  np.testing.assert_allclose(small[0, 0], 1.5 * 0.5**0.5, rtol=1e-6)
  # Another epsilon: 1e-6 of 1e-6 + 3e-6.
  larger = layers.RMSNorm(3e-6).apply(params, jnp.full((1, 2), 1e-3))
  np.testing.assert_allclose(larger[0, 0], 1.5 * 0.25**0.5, rtol=1e-6)


def test_rms_norm_computes_in_f32():
  # In bf16, 256 squares of 1 summed one by one would stop growing at 256 and
  # 1 + 2^-9 would be 1.
  params = {'params': {'scale': jnp.full(512, 2.0**-7)}}
  found = layers.RMSNorm().apply(params, jnp.ones((1, 512), jnp.bfloat16))
  assert found.dtype == jnp.bfloat16
  np.testing.assert_array_equal(
    found.astype(jnp.float32), np.full((1, 512), 1 + 2.0**-7)
  )


@pytest.mark.parametrize(('base', 'scale'), [(10_000.0, 1.0), (1e6, 8.0)])
def test_rope_rotates_halves(base, scale):
  # Pair (i, i + H / 2) turns by position / scale / base^(2 i / H).
  positions = np.array([[0, 1, 5, 4095]])
  x = np.random.RandomState(0).standard_normal((1, 4, 2, 6)).astype(np.float32)
  table = layers.rope_table(jnp.asarray(positions), 6, base, scale)
  found = layers.apply_rope(jnp.asarray(x), table, 0.5)
  expected = np.zeros((1, 4, 2, 6))
  for s, position in enumerate(positions[0]):
    for i in range(3):
      angle = position / scale / base ** (2 * i / 6)
      first, second = x[0, s, :, i], x[0, s, :, i + 3]
      expected[0, s, :, i] = first * np.cos(angle) - second * np.sin(angle)
      expected[0, s, :, i + 3] = second * np.cos(angle) + first * np.sin(angle)
  # f32 angles of up to 4095 radians are good to 2e-4.
  np.testing.assert_allclose(found, 0.5 * expected, atol=5e-4)
  np.testing.assert_array_equal(found[:, 0], 0.5 * x[:, 0])


def test_query_scale_is_applied_before_rounding():
  # 1/12 is 0.08349609375 in bf16; 1.5 / 12 = 0.125 is exact, and 1.5 times the
  # rounded number would be 0.1252.
  table = layers.rope_table(jnp.zeros((1, 1), jnp.int32), 2, 10_000.0, 1.0)
  x = jnp.full((1, 1, 1, 2), 1.5, jnp.bfloat16)
  assert float(layers.apply_rope(x, table, 1 / 12)[0, 0, 0, 0]) == 0.125


def test_geglu_by_hand():
  # With gate = up = 1 everywhere, x summing to 1: gelu(1) * 1 per hidden unit,
  # three of them summed by down = 1. The tanh form of gelu(1) is 0.841192, the
  # exact one 0.841345.
  ones = {
    'gate': jnp.ones((4, 3)),
    'up': jnp.ones((4, 3)),
    'down': jnp.ones((3, 4)),
  }
  found = layers.Mlp(SMALL).apply({'params': ones}, jnp.full((1, 1, 4), 0.25))
  np.testing.assert_allclose(found, np.full((1, 1, 4), 3 * 0.841192), rtol=1e-6)


def test_products_of_rounded_operands_are_summed_in_f32():
  # bfloat16 has 1 and 1 + 2^-7 next to each other: x's first number and the
  # cotangent are rounded to 1. The sum needs 14 bits.
  x = jnp.array([[1 + 2.0**-9, 3.0]])
  w = jnp.array([[1 + 2.0**-7], [2.0**-13]])
  found, pull = jax.vjp(lambda x, w: layers.matmul(x, w, 'bfloat16'), x, w)
  assert float(found[0, 0]) == 1 + 2.0**-7 + 3 * 2.0**-13
  of_x, of_w = pull(jnp.array([[1 + 2.0**-9]]))
  np.testing.assert_array_equal(of_x, w.T)
  np.testing.assert_array_equal(of_w, [[1.0], [3.0]])
  # Without operands of their own, nothing is rounded.
  exact = layers.matmul(x, w)
  assert float(exact[0, 0]) == (1 + 2.0**-9) * (1 + 2.0**-7) + 3 * 2.0**-13


def test_kernels_are_drawn_with_their_fan_in():
  config = model_config.ModelConfig(
    vocab_size=8,
    width=256,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=6,
    mlp_width=64,
  )
  params = layers.Mlp(config).init(jax.random.key(0), jnp.zeros((1, 1, 256)))
  for name, fan_in in (('gate', 256), ('up', 256), ('down', 64)):
    kernel = params['params'][name].unbox()
    # 16384 draws: the deviation is known to 0.6 %.
    np.testing.assert_allclose(kernel.std(), fan_in**-0.5, rtol=0.03)
