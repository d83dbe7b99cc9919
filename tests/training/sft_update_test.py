"""Supervised learning: the loss by hand, loss masks, micro-batches."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from score_jax.models import transformer
from score_jax.training import optimizers, sft_update, train_state
from tests.support import small_batch

pytestmark = pytest.mark.usefixtures('quick_compilation')

CONFIG = small_batch.CONFIG
SGD = optax.sgd(1.0)


@pytest.fixture(scope='module')
def policy():
  return small_batch.params(0)


@pytest.fixture(scope='module')
def step():
  return sft_update.make_supervised_step(CONFIG, SGD)


def slow_loss(params, trajectory, loss_mask):
  """Mean of -log pi over the tokens in the loss mask, one after the other."""
  total, count = 0.0, 0
  for b in range(len(trajectory.length)):
    tokens = trajectory.tokens[b, : trajectory.length[b]]
    hidden, _ = transformer.forward(
      CONFIG, params, tokens[None], np.arange(len(tokens))[None]
    )
    logprobs = jax.nn.log_softmax(hidden[0] @ params['embedding'].T)
    for t in range(1, len(tokens)):
      k = int(trajectory.turn[b, t]) - 1
      if k >= 0:
        total -= loss_mask[b, k] * logprobs[t - 1, tokens[t]]
        count += loss_mask[b, k]
  return total / count, count


@pytest.fixture(scope='module')
def slow_gradient():
  trajectory = jax.device_get(small_batch.make_batch(size=4).trajectory)
  loss = lambda params, loss_mask: slow_loss(params, trajectory, loss_mask)
  return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize('first_in_loss', [True, False])
def test_loss_and_gradient_are_those_of_slow_loops(
  policy, step, slow_gradient, first_in_loss
):
  trajectory = small_batch.make_batch(size=4).trajectory
  loss_mask = np.ones((4, 2), bool)
  loss_mask[1:3, 0] = first_in_loss
  (loss, count), slow = slow_gradient(policy, loss_mask)
  before = jax.tree.map(np.array, policy)
  state, metrics = step(
    train_state.init_state(policy, SGD), trajectory, loss_mask
  )
  total, number = metrics['loss']
  # Attempts of 3 + 1 + 4 + 2 and 3 + 4 + 4 + 1 tokens; without the first
  # attempts of sequences 1 and 2, five fewer.
  assert int(number) == int(count) == (22 if first_in_loss else 17)
  assert float(total) / int(number) == pytest.approx(float(loss), rel=1e-5)
  fast = jax.tree.map(lambda a, b: a - np.asarray(b), before, state.params)
  small_batch.assert_close(fast, slow, atol=1e-5)


def test_an_empty_loss_mask_is_no_update(policy, step):
  trajectory = small_batch.make_batch(size=4).trajectory
  loss_mask = np.zeros((4, 2), bool)
  state, metrics = step(
    train_state.init_state(policy, SGD), trajectory, loss_mask
  )
  assert int(metrics['loss'][1]) == 0
  small_batch.assert_close(state.params, policy, atol=0)


def test_micro_batches_are_the_whole(policy, step):
  # The parts' loss masks differ in size: a mean of means would be wrong.
  trajectory = small_batch.make_batch(size=4).trajectory
  loss_mask = np.array([[1, 1], [0, 1], [0, 0], [1, 0]], bool)
  in_parts = sft_update.make_supervised_step(CONFIG, SGD, micro_batches=4)
  one, whole = step(train_state.init_state(policy, SGD), trajectory, loss_mask)
  two, added = in_parts(
    train_state.init_state(policy, SGD), trajectory, loss_mask
  )
  small_batch.assert_close(one.params, two.params, atol=1e-6)
  # 3 + 3, 4, 0 and 2 tokens.
  assert int(whole['loss'][1]) == int(added['loss'][1]) == 12
  assert float(added['loss'][0]) == pytest.approx(
    float(whole['loss'][0]), rel=1e-6
  )


def test_logits_of_attempts_alone_are_enough(policy, step):
  # Sequences have at most 8 attempt tokens of 12.
  trajectory = small_batch.make_batch(size=8).trajectory
  loss_mask = np.array([[1, 1], [0, 1], [0, 0], [1, 0]] * 2, bool)
  fewer = sft_update.make_supervised_step(CONFIG, SGD, attempt_tokens=8)
  one, everything = step(
    train_state.init_state(policy, SGD), trajectory, loss_mask
  )
  two, attempts = fewer(
    train_state.init_state(policy, SGD), trajectory, loss_mask
  )
  small_batch.assert_close(one.params, two.params, atol=1e-6)
  assert int(everything['loss'][1]) == int(attempts['loss'][1])
  assert float(attempts['loss'][0]) == pytest.approx(
    float(everything['loss'][0]), rel=1e-6
  )


def test_padding_is_not_read(policy, step):
  trajectory = small_batch.make_batch(size=4).trajectory
  inside = np.arange(12) < np.asarray(trajectory.length)[:, None]
  other = trajectory.replace(tokens=jnp.where(inside, trajectory.tokens, 0))
  loss_mask = np.ones((4, 2), bool)
  one, _ = step(train_state.init_state(policy, SGD), trajectory, loss_mask)
  two, _ = step(train_state.init_state(policy, SGD), other, loss_mask)
  small_batch.assert_close(one.params, two.params, atol=0)


def test_what_is_not_finite_is_skipped(step):
  broken = small_batch.params(0)
  broken['embedding'] = broken['embedding'].at[0, 0].set(jnp.nan)
  trajectory = small_batch.make_batch(size=4).trajectory
  state, _ = step(
    train_state.init_state(broken, SGD), trajectory, np.ones((4, 2), bool)
  )
  assert int(state.skipped) == 1
  # The other parameters have not been updated with it.
  assert np.isfinite(state.params['final_norm']['scale']).all()


def test_it_learns_sequences_by_heart(policy):
  trajectory = small_batch.make_batch(size=4).trajectory
  optimizer = optimizers.make_optimizer(3e-2)
  step = sft_update.make_supervised_step(CONFIG, optimizer)
  state = train_state.init_state(policy, optimizer)
  values = []
  for _ in range(60):
    state, metrics = step(state, trajectory, np.ones((4, 2), bool))
    values.append(float(metrics['loss'][0]) / int(metrics['loss'][1]))
  assert values[-1] < 0.5 * values[0]
  assert step._cache_size() == 1
