"""The update, through a real small model in float32."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from score_jax import arrays
from score_jax.algorithm import (
  adaptive,
  advantages,
  losses,
  rewards,
  stage_coefficients,
)
from score_jax.models import transformer
from score_jax.training import (
  device_layout,
  optimizers,
  rl_update,
  teacher_forcing,
  train_state,
)
from tests.support import small_batch

pytestmark = pytest.mark.usefixtures('quick_compilation')

CONFIG = small_batch.CONFIG
ALL = jnp.ones((8, 2), bool)
STAGE = stage_coefficients.make_stage([1.0, 1.0], [0.0, 10.0], [0.3, 0.7])
SGD = optax.sgd(1.0)


@pytest.fixture(scope='module')
def policy():
  return small_batch.params(0)


@pytest.fixture(scope='module')
def reference():
  return small_batch.params(1)


@pytest.fixture(scope='module')
def sgd_step():
  return rl_update.make_train_step(CONFIG, SGD)


def gradient(step, policy, reference, batch, loss_mask=ALL, stage=STAGE):
  state = train_state.init_state(policy, SGD)
  return small_batch.gradient(step, state, reference, batch, loss_mask, stage)


@pytest.fixture(scope='module')
def whole(policy, reference, sgd_step):
  """Gradient and metrics of the whole batch."""
  return gradient(sgd_step, policy, reference, small_batch.make_batch())


def slow_loss(
  params, reference, batch, stage, temperature=1.0, cap=None, kl='exact'
):
  """Eq. 2 to 4, sequence by sequence and token by token, without padding.

  With a cap, what is sampled has importance weights up to it.
  """
  trajectory = jax.device_get(batch.trajectory)
  batch_size = len(trajectory.length)
  total = 0.0
  for b in range(batch_size):
    tokens = trajectory.tokens[b, : trajectory.length[b]]
    positions = np.arange(len(tokens))[None]
    logits = {}
    for name, tree in (('policy', params), ('reference', reference)):
      hidden, _ = transformer.forward(CONFIG, tree, tokens[None], positions)
      logits[name] = (hidden[0] @ tree['embedding'].T) / temperature
    for t in range(1, len(tokens)):
      k = int(trajectory.turn[b, t]) - 1
      if k < 0:
        continue
      log_pi = jax.nn.log_softmax(logits['policy'][t - 1])
      log_ref = jax.nn.log_softmax(logits['reference'][t - 1])
      own = log_pi[tokens[t]]
      weight = 1.0
      if cap:
        ratio = jnp.exp(own - trajectory.logprobs[b, t])
        weight = jax.lax.stop_gradient(jnp.minimum(ratio, cap))
      if kl == 'k3':
        change = log_ref[tokens[t]] - own
        cost = weight * (jnp.exp(change) - 1 - change)
      else:
        cost = jnp.sum(jnp.exp(log_pi) * (log_pi - log_ref))
      scale = float(stage.advantage_scale[k])
      total -= batch.advantages[b, k] * scale * weight * own
      total += float(stage.kl_coefficient[k]) * cost
  return total / batch_size


def test_the_gradient_is_that_of_two_slow_loops(policy, reference):
  # A first attempt of one token, and a sequence that fills T; temperature and
  # advantage scale are not 1.
  batch = jax.tree.map(lambda x: x[1:3], small_batch.make_batch(size=4))
  stage = stage_coefficients.make_stage(
    [1.0, 1.0], [0.0, 10.0], [0.3, 0.7], normalize_bonus=True
  )
  step = rl_update.make_train_step(CONFIG, SGD, temperature=0.7)
  fast, metrics = gradient(step, policy, reference, batch, ALL[:2], stage)
  loss, slow = jax.jit(
    jax.value_and_grad(
      lambda p, r: slow_loss(p, r, batch, stage, temperature=0.7)
    )
  )(policy, reference)
  assert float(metrics['loss'][0]) == pytest.approx(float(loss), abs=1e-5)
  small_batch.assert_close(fast, slow, atol=1e-5)
  norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(fast)))
  assert float(metrics['grad_norm'][0]) == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize(
  ('kl', 'updates'), [('exact', 2), ('k3', 2), ('exact', 1)]
)
def test_mini_batches_are_updates_in_turn(policy, reference, kl, updates):
  # Problems of one sample: two updates of one sequence, or one of a batch that
  # may be stale. The sampler's probabilities are random, so that some weights
  # reach the cap.
  index = jnp.array([3, 5])[:updates]
  batch = jax.tree.map(lambda x: x[index], small_batch.make_batch())
  noise = np.random.default_rng(7).normal(-3, 1, batch.trajectory.turn.shape)
  trajectory = batch.trajectory.replace(logprobs=noise.astype(np.float32))
  batch = batch.replace(trajectory=trajectory)
  optimizer = optax.sgd(0.1)
  step = rl_update.make_train_step(
    CONFIG,
    optimizer,
    mini_batches=updates,
    stale=updates == 1,
    importance_cap=1.5,
    kl=kl,
  )
  state = train_state.init_state(policy, optimizer)
  after, metrics = step(state, reference, batch, ALL[:updates], STAGE)

  expected, losses = policy, []
  for number in range(updates):
    part = jax.tree.map(lambda x, n=number: x[n : n + 1], batch)
    loss, slope = jax.jit(
      jax.value_and_grad(
        lambda p, part=part: slow_loss(
          p, reference, part, STAGE, cap=1.5, kl=kl
        )
      )
    )(expected)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, expected, slope)
    losses.append(float(loss))
  small_batch.assert_close(after.params, expected, atol=1e-5)
  assert float(metrics['loss'][0]) == pytest.approx(sum(losses), abs=1e-5)
  # A step is one rollout, whatever its updates.
  assert int(after.step) == 1
  assert int(metrics['grad_norm'][1]) == updates
  share = float(metrics['importance/truncated'][0])
  tokens = int(metrics['importance/truncated'][1])
  assert tokens == int((batch.trajectory.turn > 0).sum())
  assert 0 < share < tokens


@pytest.fixture(scope='module')
def clipping_step():
  return rl_update.make_train_step(
    CONFIG, SGD, micro_batches=2, max_grad_norm=0.5
  )


def test_sequences_that_are_not_kept_are_as_if_absent(
  policy, reference, sgd_step, clipping_step
):
  # The second problem leaves the loss, KL included, and the mean.
  batch, kept = small_batch.make_batch(), jnp.arange(8) < 4
  found, metrics = gradient(
    clipping_step, policy, reference, batch.replace(kept=kept)
  )
  masked, of_masked = gradient(
    sgd_step, policy, reference, batch, ALL & kept[:, None]
  )
  # Out of the loss alone, they would count in a mean over 8 instead of 4.
  doubled = jax.tree.map(lambda g: 2 * g, masked)
  small_batch.assert_close(found, doubled, atol=4e-6)
  loss, of_eight = (float(m['loss'][0]) for m in (metrics, of_masked))
  assert loss == pytest.approx(2 * of_eight, rel=1e-5)
  assert int(metrics['kl/turn1'][1]) == 4
  # Nothing left is no gradient, not a division by 0.
  none, metrics = gradient(
    clipping_step, policy, reference, batch.replace(kept=jnp.zeros(8, bool))
  )
  assert all((leaf == 0).all() for leaf in jax.tree.leaves(none))
  assert float(metrics['loss'][0]) == 0


def test_clipped_updates_are_counted(policy, reference, clipping_step, whole):
  batch = small_batch.make_batch().replace(kept=jnp.ones(8, bool))
  no_kl = rewards.without_kl(STAGE)
  for factor, clipped in ((1e3, 1), (1e-3, 0)):
    scaled = batch.replace(advantages=factor * batch.advantages)
    _, metrics = gradient(clipping_step, policy, reference, scaled, ALL, no_kl)
    assert [float(x) for x in metrics['clipped']] == [clipped, 1]
    assert (float(metrics['grad_norm'][0]) > 0.5) == clipped
  # Without a bound there is nothing to count.
  assert 'clipped' not in whole[1]


@pytest.fixture(scope='module')
def perturbed(policy, reference):
  """(what is added at turn 0, 1, 2; stage, batch) -> gradient, metrics.

  Between model and loss the log-probability and the KL of a turn's tokens are
  multiplied by 1 + what is added, turn 0 being prompt, instruction and padding.
  The numbers travel in `stage.discount`, which no update reads.
  """
  original = losses.score_loss

  def score_loss(logprobs, kl, advantages, turn, sampled, stage, **options):
    factor = 1 + stage.discount[turn]
    return original(
      logprobs * factor, kl * factor, advantages, turn, sampled, stage,
      **options,
    )  # fmt: skip

  patch = pytest.MonkeyPatch()
  patch.setattr(losses, 'score_loss', score_loss)
  step = rl_update.make_train_step(CONFIG, SGD)

  def run(added, stage=STAGE, batch=None):
    stage = dataclasses.replace(stage, discount=np.array(added, np.float32))
    batch = batch or small_batch.make_batch()
    return gradient(step, policy, reference, batch, ALL, stage)

  run([0, 0, 0])  # compiles, while it is patched
  patch.undo()
  return run


def test_given_tokens_have_no_gradient(perturbed):
  before, metrics = perturbed([0, 0, 0])
  # As if log-probabilities and KLs of prompt, instruction and padding, and
  # their derivatives, were a thousand times what they are.
  after, same = perturbed([1e3, 0, 0])
  small_batch.assert_close(before, after, atol=0)
  assert float(metrics['loss'][0]) == float(same['loss'][0])
  for added in ([0, 1e-2, 0], [0, 0, 1e-2]):
    _, other = perturbed(added)
    assert float(metrics['loss'][0]) != float(other['loss'][0])


def test_stage_one_does_not_reward_attempt_one(perturbed):
  # Without KL, whatever the scores, the whole gradient is attempt 2's.
  stage = stage_coefficients.stage_one(beta1=0.0, beta2=0.0)
  score = np.random.default_rng(3).integers(0, 2, (8, 2)).astype(np.float32)
  shaped, valid = rewards.shape_rewards(score, np.ones((8, 2), bool), stage)
  batch = small_batch.make_batch()
  batch = arrays.TrainBatch(
    batch.trajectory,
    advantages.leave_one_out(shaped, valid, small_batch.SAMPLES),
  )
  before, _ = perturbed([0, 0, 0], stage, batch)
  after, _ = perturbed([0, 1e3, 0], stage, batch)
  small_batch.assert_close(before, after, atol=0)
  # Linear: attempt 2's terms doubled is the gradient doubled.
  moved, _ = perturbed([0, 0, 1], stage, batch)
  doubled = jax.tree.map(lambda g: 2 * g, before)
  small_batch.assert_close(moved, doubled, atol=1e-5)
  assert max(np.abs(g).max() for g in jax.tree.leaves(before)) > 1e-3


def test_micro_batches_add_up_to_the_whole(policy, reference, whole):
  # One sequence each; two each are in length_buckets_test.
  step = rl_update.make_train_step(CONFIG, SGD, micro_batches=8)
  batch = small_batch.make_batch()
  parts, metrics = gradient(step, policy, reference, batch)
  # f32, another order of summation.
  small_batch.assert_close(parts, whole[0], atol=2e-6)
  assert set(metrics) == set(whole[1])
  for name, (total, count) in metrics.items():
    assert int(count) == int(whole[1][name][1]), name
    assert float(total) == pytest.approx(
      float(whole[1][name][0]), rel=1e-5, abs=1e-5
    ), name


def test_sequences_must_divide_into_micro_batches(policy, reference):
  step = rl_update.make_train_step(CONFIG, SGD, micro_batches=3)
  with pytest.raises(ValueError, match='8 sequences'):
    gradient(step, policy, reference, small_batch.make_batch())


def test_more_padding_changes_nothing(policy, reference, sgd_step, whole):
  batch = small_batch.make_batch()
  rng = np.random.default_rng(5)

  def widen(x):
    return jnp.pad(x, ((0, 0), (0, 5))) if x.shape[1:] == (12,) else x

  wide = jax.tree.map(widen, batch)
  junk = rng.integers(0, CONFIG.vocab_size, (8, 17)).astype(np.int32)
  inside = np.arange(17) < np.asarray(wide.trajectory.length)[:, None]
  tokens = jnp.where(inside, wide.trajectory.tokens, junk)
  wide = wide.replace(trajectory=wide.trajectory.replace(tokens=tokens))
  other, _ = gradient(sgd_step, policy, reference, wide)
  small_batch.assert_close(other, whole[0], atol=2e-6)


def test_the_order_of_sequences_changes_nothing(
  policy, reference, sgd_step, whole
):
  order = np.random.default_rng(6).permutation(8)
  batch = jax.tree.map(lambda x: x[order], small_batch.make_batch())
  other, _ = gradient(sgd_step, policy, reference, batch)
  small_batch.assert_close(other, whole[0], atol=2e-6)


def test_attempts_out_of_the_loss_have_no_gradient(
  policy, reference, sgd_step, whole
):
  batch = small_batch.make_batch()
  loss_mask = ALL.at[0, 0].set(False).at[3, 1].set(False)
  once, metrics = gradient(sgd_step, policy, reference, batch, loss_mask)
  large = jnp.where(loss_mask, batch.advantages, 1e6)
  again, _ = gradient(
    sgd_step, policy, reference, batch.replace(advantages=large), loss_mask
  )
  small_batch.assert_close(once, again, atol=0)
  assert int(metrics['kl/turn1'][1]) == 7
  # The mean is over all sequences: what is left out is missing from the sum.
  only, _ = gradient(sgd_step, policy, reference, batch, ~loss_mask)
  both = jax.tree.map(np.add, once, only)
  small_batch.assert_close(both, whole[0], atol=2e-6)


def test_the_forms_of_kl(policy, reference, sgd_step, whole):
  batch = small_batch.make_batch()
  steps = {
    'exact': sgd_step,
    'k3': rl_update.make_train_step(CONFIG, SGD, kl='k3'),
    'reward': rl_update.make_train_step(CONFIG, SGD, kl='reward'),
  }
  # At the reference itself all KLs are zero, and so are their derivatives:
  # what is left is the policy gradient.
  no_kl = rewards.without_kl(STAGE)
  plain, _ = gradient(sgd_step, policy, policy, batch, ALL, no_kl)
  for name, step in steps.items():
    at_reference, metrics = gradient(step, policy, policy, batch)
    small_batch.assert_close(at_reference, plain, atol=1e-5)
    assert abs(float(metrics['kl/turn1'][0])) < 1e-5, name
  # Elsewhere k3 is an estimate, never negative; its gradient is another one.
  k3, metrics = gradient(steps['k3'], policy, reference, batch)
  assert float(metrics['kl/turn1'][0]) > 0
  leaf = 'embedding'
  assert np.abs(k3[leaf] - whole[0][leaf]).max() > 1e-3
  # KL in the reward: the loss has none, and still reports the exact one.
  left, told = gradient(steps['reward'], policy, reference, batch)
  small_batch.assert_close(left, plain, atol=1e-5)
  assert float(told['kl/turn2'][0]) == pytest.approx(
    float(whole[1]['kl/turn2'][0]), rel=1e-5
  )


@pytest.fixture(scope='module')
def adam():
  optimizer = optimizers.make_optimizer(1e-3)
  return optimizer, rl_update.make_train_step(CONFIG, optimizer)


@pytest.mark.parametrize(
  ('advantage', 'weight'),
  [(np.nan, 1.0), (np.inf, 1.0), (1.0, np.nan)],
)
def test_updates_that_are_not_finite_are_skipped(
  policy, reference, adam, advantage, weight
):
  optimizer, step = adam
  good = small_batch.make_batch()
  bad = good.replace(advantages=good.advantages.at[2, 1].set(advantage))
  # With the weights of the KL-anchor, the KL is not finite either.
  anchor = jax.tree.map(lambda x: x * weight, reference)
  state, _ = step(
    train_state.init_state(policy, optimizer), reference, good, ALL, STAGE
  )
  before = jax.device_get(state)
  for skipped in (1, 2):
    state, metrics = step(state, anchor, bad, ALL, STAGE)
    assert int(state.skipped) == skipped
    assert int(state.step) == 1 + skipped
    assert not np.isfinite(float(metrics['loss'][0]))
  small_batch.assert_close(
    (before.params, before.opt_state, before.beta2),
    (state.params, state.opt_state, state.beta2),
    atol=0,
  )
  state, _ = step(state, reference, good, ALL, STAGE)
  assert int(state.skipped) == 0
  assert np.any(
    np.asarray(state.params['embedding']) != before.params['embedding']
  )


def test_stages_and_steps_share_one_program(policy, reference, caplog):
  caplog.set_level(logging.WARNING, logger='jax')
  optimizer = optimizers.make_optimizer(1e-3)
  step = rl_update.make_train_step(CONFIG, optimizer)
  state = train_state.init_state(policy, optimizer)
  first = stage_coefficients.stage_one()
  with jax.log_compiles():
    for stage in (
      first,
      first,
      # On the host, as the run does it.
      adaptive.with_beta2(first, np.asarray(state.beta2)),
      stage_coefficients.stage_two(normalize_bonus=True),
      rewards.without_kl(stage_coefficients.stage_two(discount=0.8)),
    ):
      state, _ = step(state, reference, small_batch.make_batch(), ALL, stage)
    # A new stage: a fresh state from the policy that the last one ended with.
    state = train_state.init_state(state.params, optimizer, beta2=0.1)
    state, _ = step(state, reference, small_batch.make_batch(), ALL, first)
  compiled = [
    record.getMessage()
    for record in caplog.records
    if record.getMessage().startswith('Compiling')
  ]
  assert sum('jit(train_step)' in message for message in compiled) == 1


def test_the_state_is_donated_and_the_reference_is_not(policy, adam):
  optimizer, step = adam
  before = jax.tree.map(np.array, policy)
  # A stage starts at its reference: the state owns a copy.
  state = train_state.init_state(policy, optimizer)
  after, _ = step(state, policy, small_batch.make_batch(), ALL, STAGE)
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
  small_batch.assert_close(before, policy, atol=0)
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))


def test_sampler_and_trainer_agree(policy, reference):
  temperature = 0.6
  trajectory = small_batch.make_trajectory(policy, temperature)
  step = rl_update.make_train_step(CONFIG, SGD, temperature=temperature)
  batch = arrays.TrainBatch(trajectory, jnp.zeros((8, 2)))
  _, metrics = gradient(step, policy, reference, batch)
  assert float(metrics['engine/logprob_gap_max'][0]) < 1e-4
  # Another policy, or a single wrong number, is found out.
  _, metrics = gradient(step, reference, policy, batch)
  assert float(metrics['engine/logprob_gap_max'][0]) > 0.1
  where = jnp.argmax(trajectory.turn[3] == 2)
  wrong = trajectory.replace(logprobs=trajectory.logprobs.at[3, where].add(0.5))
  _, metrics = gradient(
    step, policy, reference, batch.replace(trajectory=wrong)
  )
  gap = float(metrics['engine/logprob_gap_max'][0])
  assert gap == pytest.approx(0.5, abs=1e-3)
  given = wrong.replace(sampled=wrong.sampled.at[3, 1].set(False))
  _, metrics = gradient(
    step, policy, reference, batch.replace(trajectory=given)
  )
  assert float(metrics['engine/logprob_gap_max'][0]) < 1e-4


def test_reference_logprobs_are_the_samplers(policy):
  trajectory = small_batch.make_trajectory(policy, 0.6)
  layout = device_layout.make(CONFIG, jax.devices()[:1])
  logprobs = teacher_forcing.make_reference_logprobs(layout, temperature=0.6)(
    policy, trajectory
  )
  sampled = np.asarray(trajectory.turn) > 0
  np.testing.assert_allclose(
    np.asarray(logprobs)[sampled],
    np.asarray(trajectory.logprobs)[sampled],
    atol=1e-4,
  )


def test_positions_end_with_the_sequence():
  trajectory = small_batch.make_batch(size=4).trajectory
  positions = np.asarray(teacher_forcing.sequence_positions(trajectory))
  # Sequences of 10, 9, 12 and 7 tokens in 12 columns.
  assert positions[0].tolist() == [*range(10), -1, -1]
  assert positions[2].tolist() == [*range(12)]
  assert (positions >= 0).sum(axis=1).tolist() == [10, 9, 12, 7]
