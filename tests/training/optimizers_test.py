"""Adam with clipping, and updates that are skipped."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from score_jax import arrays
from score_jax.training import optimizers

PARAMS = {'a': jnp.array([1.0, 2.0]), 'b': jnp.array([[3.0]])}
GRADIENTS = {'a': jnp.array([3.0, 0.0]), 'b': jnp.array([[-4.0]])}


def make_state(optimizer):
  return arrays.TrainState(
    step=jnp.int32(7),
    params=PARAMS,
    opt_state=optimizer.init(PARAMS),
    beta2=jnp.float32(0.1),
    skipped=jnp.int32(2),
  )


def test_the_first_step_of_adam():
  # Bias correction makes the first step lr * g / (|g| + eps): 0.01 against
  # each gradient's sign, and nothing where the gradient is 0.
  optimizer = optimizers.make_optimizer(0.01, max_grad_norm=None)
  state, norm = optimizers.apply_if_finite(
    optimizer, jnp.float32(1.0), GRADIENTS, make_state(optimizer)
  )
  np.testing.assert_allclose(state.params['a'], [0.99, 2.0], rtol=1e-6)
  np.testing.assert_allclose(state.params['b'], [[3.01]], rtol=1e-6)
  # sqrt(3^2 + 4^2)
  assert float(norm) == pytest.approx(5.0)
  assert int(state.step) == 8
  assert int(state.skipped) == 0


def test_gradients_are_clipped_by_their_global_norm():
  # The norm is 5: clipped to 1 they are (0.6, 0, -0.8). The first moment of
  # Adam is 0.1 of them, and 0.1 of the gradient itself where 5 is allowed.
  for limit, factor in ((1.0, 0.2), (5.0, 1.0), (100.0, 1.0)):
    optimizer = optimizers.make_optimizer(0.01, max_grad_norm=limit)
    state, norm = optimizers.apply_if_finite(
      optimizer, jnp.float32(1.0), GRADIENTS, make_state(optimizer)
    )
    moment = optax.tree.get(state.opt_state, 'mu')
    np.testing.assert_allclose(moment['a'], [0.1 * 3 * factor, 0.0], rtol=1e-5)
    np.testing.assert_allclose(moment['b'], [[-0.1 * 4 * factor]], rtol=1e-5)
    # What is reported is the norm before clipping.
    assert float(norm) == pytest.approx(5.0)


def test_a_schedule_counts_updates():
  optimizer = optimizers.make_optimizer(
    lambda count: 0.01 * (count + 1), max_grad_norm=None
  )
  state = make_state(optimizer)
  for expected in (2.99, 2.97):
    state, _ = optimizers.apply_if_finite(
      optimizer,
      jnp.float32(1.0),
      {'a': jnp.zeros(2), 'b': jnp.array([[4.0]])},
      state,
    )
    # 3 - 0.01, then - 0.02: of equal gradients Adam's steps are lr each.
    np.testing.assert_allclose(state.params['b'], [[expected]], rtol=1e-5)


def test_betas_epsilon_and_decay():
  # One step from zero moments: bias correction leaves m = g, v = g^2, and
  # g / (|g| + eps) = 4 / (4 + 4) = 1/2. Decay takes 0.1 * 0.3 * 3 off besides.
  optimizer = optimizers.make_optimizer(
    0.1, max_grad_norm=None, b1=0.5, b2=0.75, epsilon=4.0, weight_decay=0.3
  )
  gradients = {'a': jnp.zeros(2), 'b': jnp.array([[4.0]])}
  state, _ = optimizers.apply_if_finite(
    optimizer, jnp.float32(1.0), gradients, make_state(optimizer)
  )
  np.testing.assert_allclose(state.params['b'], [[3 - 0.05 - 0.09]], rtol=1e-6)
  # Without a gradient decay alone.
  np.testing.assert_allclose(state.params['a'], [0.97, 1.94], rtol=1e-6)
  # Half of the gradient, a quarter of its square.
  assert float(optax.tree.get(state.opt_state, 'mu')['b'][0, 0]) == 2.0
  assert float(optax.tree.get(state.opt_state, 'nu')['b'][0, 0]) == 4.0


@pytest.mark.parametrize(
  ('kind', 'expected'),
  [
    # Of 10 updates 2 rise: 0, then half of it. 8 are left.
    ('constant', {0: 0, 1: 0.4, 2: 0.8, 9: 0.8}),
    ('linear', {0: 0, 1: 0.4, 2: 0.8, 3: 0.7, 6: 0.4, 9: 0.1, 10: 0}),
    # 0.4 * (1 + cos(pi * t / 8)), a quarter and half of the way down.
    ('cosine', {1: 0.4, 2: 0.8, 4: 0.4 + 0.4 * 0.5**0.5, 6: 0.4, 10: 0}),
  ],
)
def test_learning_rates_by_hand(kind, expected):
  schedule = optimizers.make_schedule(0.8, kind, warmup=2, updates=10)
  found = {count: float(schedule(count)) for count in expected}
  assert found == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize('kind', ['linear', 'cosine'])
def test_what_is_left_of_the_learning_rate(kind):
  schedule = optimizers.make_schedule(0.8, kind, updates=10, last_share=0.25)
  assert float(schedule(0)) == pytest.approx(0.8)
  assert float(schedule(5)) == pytest.approx(0.5)
  assert float(schedule(10)) == float(schedule(11)) == pytest.approx(0.2)


def test_a_constant_learning_rate_is_a_number():
  # The state then has no counter of its own: that of existing checkpoints.
  assert optimizers.make_schedule(0.8) == 0.8
  counted = optimizers.make_schedule(0.8, warmup=1)
  leaves = [
    len(jax.tree.leaves(optimizers.make_optimizer(rate).init(PARAMS)))
    for rate in (0.8, counted)
  ]
  assert leaves == [5, 6]


@pytest.mark.parametrize(
  ('loss', 'gradient'),
  [(np.nan, 1.0), (np.inf, 1.0), (1.0, np.nan), (1.0, -np.inf)],
)
def test_what_is_not_finite_changes_nothing_but_counters(loss, gradient):
  optimizer = optimizers.make_optimizer(0.01)
  before = make_state(optimizer)
  state, _ = jax.jit(
    lambda loss, gradients, state: optimizers.apply_if_finite(
      optimizer, loss, gradients, state
    )
  )(jnp.float32(loss), {**GRADIENTS, 'b': jnp.array([[gradient]])}, before)
  assert (int(state.step), int(state.skipped)) == (8, 3)
  kept = (state.params, state.opt_state, state.beta2)
  before = (before.params, before.opt_state, before.beta2)
  for one, other in zip(jax.tree.leaves(kept), jax.tree.leaves(before)):
    np.testing.assert_array_equal(one, other)
