"""The adaptive beta2: direction, bounds, and that it finds the balance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.algorithm import adaptive, stage_coefficients


@pytest.mark.parametrize('turns', [2, 3])
def test_with_beta2_is_stage_one(turns):
  expected = stage_coefficients.stage_one(beta1=0.02, beta2=0.3, turns=turns)
  stage = adaptive.with_beta2(
    stage_coefficients.stage_one(0.02, 0.0, turns), 0.3
  )
  np.testing.assert_allclose(stage.kl_coefficient, expected.kl_coefficient)


@pytest.mark.parametrize(
  ('beta2', 'first_kl', 'objective', 'expected'),
  [
    # A cost of 0.1 * 8 = 0.8 is over e times 0.2: up, by e^0.05.
    (0.1, 8.0, 0.2, 0.1 * np.exp(0.05)),
    # 0.1 * 0.5 = 0.05 is under 1/e of 0.2: down, by e^-0.05.
    (0.1, 0.5, 0.2, 0.1 * np.exp(-0.05)),
    # 0.1 * 3 / 0.2 = 1.5: within a factor e, so by 1.5^0.05.
    (0.1, 3.0, 0.2, 0.1 * 1.5**0.05),
    # In balance, and nothing measured on either side: no change.
    (0.1, 2.0, 0.2, 0.1),
    (0.1, 0.0, 0.0, 0.1),
    # No drift yet: down. No signal: up.
    (0.1, 0.0, 0.2, 0.1 * np.exp(-0.05)),
    (0.1, 1.0, 0.0, 0.1 * np.exp(0.05)),
    # Bounds: half of the initial 0.1, and ten times of it.
    (0.051, 0.0, 0.2, 0.05),
    (0.99, 9.0, 0.2, 1.0),
    # A step whose measurements are not numbers is skipped.
    (0.1, np.nan, 0.2, 0.1),
    (0.1, np.inf, 0.2, 0.1),
    (0.1, 1.0, np.nan, 0.1),
  ],
)
def test_one_step(beta2, first_kl, objective, expected):
  new = jax.jit(functools.partial(adaptive.adapt_beta2, initial=0.1))(
    jnp.float32(beta2), jnp.float32(first_kl), jnp.float32(objective)
  )
  assert new.dtype == jnp.float32
  np.testing.assert_allclose(new, expected, rtol=1e-5)


@pytest.mark.parametrize('initial', [1e-3, 0.25, 5.0])
def test_bounds_follow_the_initial_beta2(initial):
  def after(first_kl, objective):
    beta2 = jnp.float32(initial)
    for _ in range(60):
      beta2 = adaptive.adapt_beta2(
        beta2, jnp.float32(first_kl), jnp.float32(objective), initial=initial
      )
    return float(beta2)

  # 60 steps of 5 % are a factor of 20.
  assert after(0.0, 1.0) == pytest.approx(initial / 2)
  assert after(1e9, 1e-9) == pytest.approx(10 * initial)


@pytest.mark.parametrize('start', [0.02, 5.0])
def test_finds_the_balance(start):
  # A steady push f on one parameter d, held by beta2 * KL with KL = d^2 / 2:
  # d settles at f / beta2, so KL = f^2 / (2 beta2^2), and the cost beta2 * KL
  # equals the objective m at beta2 = f^2 / (2 m) = 0.6^2 / (2 * 0.5) = 0.36.
  push, objective = 0.6, 0.5
  beta2, drift = start, 0.0
  for _ in range(1500):
    drift += 0.3 * (push - beta2 * drift)
    beta2 = float(
      adaptive.adapt_beta2(
        jnp.float32(beta2),
        jnp.float32(drift**2 / 2),
        jnp.float32(objective),
        initial=start,
        lowest=0.01,
        highest=100.0,
      )
    )
  assert beta2 == pytest.approx(0.36, rel=0.02)
  assert beta2 * drift**2 / 2 == pytest.approx(objective, rel=0.02)
