"""The TPU's kernel, interpreted, against plain XLA."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.models import attention, splash

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
  ('window', 'softcap'), [(None, None), (None, 3.0), (50, 3.0)]
)
def test_values_and_gradients_are_those_of_xla(window, softcap):
  # 130 tokens become two blocks of 128, heads of 10 numbers become 128.
  rng = np.random.default_rng(0)
  *qkv, direction = (
    jnp.asarray(rng.normal(size=(1, 130, n, 10)), jnp.float32)
    for n in (4, 2, 2, 4)
  )

  def both(function):
    out, pull = jax.vjp(function, *qkv)
    return out, pull(direction)

  options = {'window': window, 'softcap': softcap}
  found = both(functools.partial(splash.attend, interpret=True, **options))
  expected = both(functools.partial(attention.attend, **options))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected
  )
