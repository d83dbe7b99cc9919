"""The loss by hand, its zeros, and that parts add up to the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.algorithm import (
  kl_divergence,
  losses,
  masked,
  rewards,
  stage_coefficients,
)

pytestmark = pytest.mark.usefixtures('quick_compilation')

# prompt | attempt 1 | instruction | attempt 2 | padding
TURN = jnp.array([[0, 1, 1, 0, 2, 2, 0], [0, 0, 1, 0, 0, 2, 0]])
LOGPROBS = jnp.array(
  [[0.0, -1, -2, 0, -3, -4, 0], [0, 0, -0.5, 0, 0, -0.25, 0]]
)
KL = jnp.array([[7.0, 0.5, 0.5, 7, 2, 1, 7], [7, 7, 0.25, 7, 7, 4, 7]])
ADVANTAGES = jnp.array([[1.0, 11], [0.5, -10]])
SAMPLED = jnp.ones((2, 2), bool)


def random_batch(rows, turns=2, tokens=12, seed=0):
  """A batch with attempts of unequal length and some that were given."""
  rng = np.random.default_rng(seed)
  turn = np.zeros((rows, tokens), np.int32)
  for row in turn:
    edges = np.sort(rng.choice(np.arange(1, tokens), 2 * turns, replace=False))
    for k in range(turns):
      row[edges[2 * k] : edges[2 * k + 1]] = k + 1
  return {
    'logprobs': jnp.asarray(-rng.exponential(size=turn.shape), jnp.float32),
    'kl': jnp.asarray(rng.exponential(size=turn.shape), jnp.float32),
    'advantages': jnp.asarray(rng.normal(size=(rows, turns)), jnp.float32),
    'turn': jnp.asarray(turn),
    'sampled': jnp.asarray(rng.random((rows, turns)) < 0.8),
    'entropy': jnp.asarray(rng.random(turn.shape), jnp.float32),
  }


def loss_of(batch, stage, **options):
  return losses.score_loss(**batch, stage=stage, **options)


class TestByHand:
  def test_stage_two(self):
    # Row 1: -1 * (-3) + 0.01 * 1 = 3.01; -11 * (-7) + 0.01 * 3 = 77.03.
    # Row 2: -0.5 * (-0.5) + 0.0025 = 0.2525; 10 * (-0.25) + 0.04 = -2.46.
    loss, metrics = losses.score_loss(
      LOGPROBS, KL, ADVANTAGES, TURN, SAMPLED, stage_coefficients.stage_two()
    )
    assert float(loss) == pytest.approx((3.01 + 77.03 + 0.2525 - 2.46) / 2)
    assert masked.means(metrics) == pytest.approx(
      {
        'kl/turn1': (1 + 0.25) / 2,
        'kl/turn2': (3 + 4) / 2,
        'policy_loss/turn1': (3 + 0.25) / 2,
        'policy_loss/turn2': (77 - 2.5) / 2,
        'advantage_magnitude/turn1': 0.75,
        'advantage_magnitude/turn2': 10.5,
        'length/turn1': 1.5,
        'length/turn2': 1.5,
      }
    )

  def test_stage_one(self):
    # The rewards of Stage I leave attempt 1 with advantage 0:
    # 0.11 * 1 + 0.11 * 0.25 + (77 + 0.03) + (-2.5 + 0.04).
    advantages = ADVANTAGES.at[:, 0].set(0)
    loss, _ = losses.score_loss(
      LOGPROBS, KL, advantages, TURN, SAMPLED, stage_coefficients.stage_one()
    )
    assert float(loss) == pytest.approx((0.11 + 0.0275 + 77.03 - 2.46) / 2)

  def test_normalised_bonus(self):
    # Turn 2's advantages are divided by 11, its KL is not.
    stage = stage_coefficients.stage_two(normalize_bonus=True)
    loss, _ = losses.score_loss(LOGPROBS, KL, ADVANTAGES, TURN, SAMPLED, stage)
    turn_two = 7 + 0.03 - 2.5 / 11 + 0.04
    assert float(loss) == pytest.approx((3.01 + 0.2525 + turn_two) / 2)

  def test_importance_weights(self):
    # Row 1: 2 * -1 + 1/2 * -2 = -3 in turn 1, 1 * -3 + 4 * -4 = -19 in turn 2;
    # row 2: 3 * -0.5 and 1 * -0.25. The KL is not weighted.
    weights = jnp.array([[9.0, 2, 0.5, 9, 1, 4, 9], [9, 9, 3, 9, 9, 1, 9]])

    def loss_of_logprobs(logprobs):
      return losses.score_loss(
        logprobs,
        KL,
        ADVANTAGES,
        TURN,
        SAMPLED,
        stage_coefficients.stage_two(),
        weights=weights,
      )

    (loss, metrics), gradient = jax.value_and_grad(
      loss_of_logprobs, has_aux=True
    )(LOGPROBS)
    policy = 1 * 3 + 11 * 19 + 0.5 * 1.5 - 10 * 0.25
    kl = 0.01 * (1 + 3 + 0.25 + 4)
    assert float(loss) == pytest.approx((policy + kl) / 2)
    assert float(metrics['policy_loss/turn1'][0]) == pytest.approx(3.75)
    # -A_k * w_t / 2 on each token of an attempt.
    np.testing.assert_allclose(
      gradient,
      [
        [0, -1, -0.25, 0, -5.5, -22, 0],
        [0, 0, -0.75, 0, 0, 5, 0],
      ],
      rtol=1e-6,
    )

  def test_given_attempts_stay_out_but_their_sequences_count(self):
    # Only row 1's second attempt and row 2's first are left, still over 2 rows.
    sampled = jnp.array([[False, True], [True, False]])
    entropy = jnp.where(TURN == 2, 0.5, 0.125)
    loss, metrics = losses.score_loss(
      LOGPROBS,
      KL,
      ADVANTAGES,
      TURN,
      sampled,
      stage_coefficients.stage_two(),
      entropy=entropy,
    )
    assert float(loss) == pytest.approx((77.03 + 0.2525) / 2)
    means = masked.means(metrics)
    assert means['kl/turn1'] == 0.25
    assert means['length/turn2'] == 2.0
    assert (means['entropy/turn1'], means['entropy/turn2']) == (0.125, 0.5)
    assert int(metrics['entropy/turn2'][1]) == 2

  def test_a_turn_that_nobody_sampled_has_no_mean(self):
    sampled = jnp.array([[False, True]] * 2)
    _, metrics = losses.score_loss(
      LOGPROBS, KL, ADVANTAGES, TURN, sampled, stage_coefficients.stage_two()
    )
    assert 'kl/turn1' not in masked.means(metrics)


class TestGradients:
  def test_by_hand_and_zero_on_given_tokens(self):
    # dL/dlogprob = -A_k * s_k / B and dL/dKL = c_k / B on the attempt's
    # tokens; exactly 0 elsewhere.
    batch = random_batch(6)
    stage = stage_coefficients.stage_two(normalize_bonus=True)
    gradient = jax.grad(
      lambda logprobs, kl: loss_of(
        batch | {'logprobs': logprobs, 'kl': kl}, stage
      )[0],
      argnums=(0, 1),
    )(batch['logprobs'], batch['kl'])
    expected = np.zeros((2, *batch['turn'].shape))
    for b, t in np.ndindex(batch['turn'].shape):
      k = int(batch['turn'][b, t]) - 1
      if k >= 0 and batch['sampled'][b, k]:
        scaled = batch['advantages'][b, k] * stage.advantage_scale[k]
        expected[0, b, t] = -scaled / 6
        expected[1, b, t] = stage.kl_coefficient[k] / 6
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    assert (np.asarray(gradient)[:, batch['turn'] == 0] == 0).all()

  def test_kl_has_no_derivative_at_given_positions_logits(self):
    rng = np.random.default_rng(1)
    policy, reference = rng.normal(size=(2, 2, 7, 5)).astype(np.float32)

    def loss(logits):
      kl = kl_divergence.exact_kl(logits, reference)
      return losses.score_loss(
        LOGPROBS, kl, ADVANTAGES, TURN, SAMPLED, stage_coefficients.stage_two()
      )[0]

    moved = np.abs(jax.grad(loss)(jnp.asarray(policy))).sum(-1)
    np.testing.assert_array_equal(moved > 0, TURN > 0)

  def test_stage_one_does_not_reward_attempt_one(self):
    # From scores to gradient, with scores that would reward attempt 1.
    stage = stage_coefficients.stage_one()
    score = jnp.array([[1.0, 0], [0, 1]])
    shaped, valid = rewards.shape_rewards(score, SAMPLED, stage)
    gradient = jax.grad(
      lambda logprobs: losses.score_loss(
        logprobs, KL, shaped, TURN, valid, stage
      )[0]
    )(LOGPROBS)
    np.testing.assert_array_equal(np.asarray(gradient)[TURN == 1], 0)
    # -1/2 on row 2's second attempt, which scored; row 1's did not.
    np.testing.assert_array_equal(np.asarray(gradient)[1, 5], -0.5)

  def test_advantages_are_constants(self):
    # Advantages that depend on the log-probabilities (KL in the reward does)
    # must not be differentiated through.
    gradient = jax.grad(
      lambda advantages: losses.score_loss(
        LOGPROBS, KL, advantages, TURN, SAMPLED, stage_coefficients.stage_two()
      )[0]
    )(ADVANTAGES)
    np.testing.assert_array_equal(gradient, 0)

  def test_garbage_at_padding_does_no_harm(self):
    poisoned = jnp.where(TURN == 0, jnp.nan, LOGPROBS)
    loss, gradient = jax.value_and_grad(
      lambda logprobs: losses.score_loss(
        logprobs, KL, ADVANTAGES, TURN, SAMPLED, stage_coefficients.stage_two()
      )[0]
    )(poisoned)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


class TestInvariances:
  stage = stage_coefficients.stage_two(turns=2)

  @pytest.mark.parametrize('rows_per_part', [1, 2, 3])
  def test_micro_batches_add_up(self, rows_per_part):
    batch = random_batch(6)

    def value_and_metrics(part):
      def loss(logprobs):
        return loss_of(
          part | {'logprobs': logprobs}, self.stage, num_sequences=6
        )

      (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(
        part['logprobs']
      )
      return value, metrics, gradient

    parts = [
      value_and_metrics({k: v[i : i + rows_per_part] for k, v in batch.items()})
      for i in range(0, 6, rows_per_part)
    ]
    whole_loss, whole_metrics, whole_gradient = value_and_metrics(batch)
    np.testing.assert_allclose(sum(p[0] for p in parts), whole_loss, rtol=1e-5)
    np.testing.assert_allclose(
      np.concatenate([p[2] for p in parts]), whole_gradient, rtol=1e-6
    )
    summed = jax.tree.map(lambda *x: sum(x), *[p[1] for p in parts])
    assert masked.means(summed) == pytest.approx(
      masked.means(whole_metrics), rel=1e-5
    )

  def test_padding_columns_do_not_matter(self):
    batch = random_batch(4)
    padded = {
      name: jnp.pad(value, ((0, 0), (0, 5)))
      if value.shape == batch['turn'].shape
      else value
      for name, value in batch.items()
    }
    padded['kl'] = padded['kl'].at[:, -5:].set(3.0)
    loss, metrics = loss_of(batch, self.stage)
    padded_loss, padded_metrics = loss_of(padded, self.stage)
    assert float(padded_loss) == pytest.approx(float(loss), rel=1e-6)
    assert masked.means(padded_metrics) == pytest.approx(
      masked.means(metrics), rel=1e-6
    )

  def test_row_order_does_not_matter(self):
    batch = random_batch(6)
    order = np.array([3, 0, 5, 1, 4, 2])
    shuffled = {name: value[order] for name, value in batch.items()}
    assert float(loss_of(shuffled, self.stage)[0]) == pytest.approx(
      float(loss_of(batch, self.stage)[0]), rel=1e-5
    )

  def test_a_row_is_the_same_alone(self):
    batch = random_batch(5)
    alone = [
      float(loss_of({n: v[i : i + 1] for n, v in batch.items()}, self.stage)[0])
      for i in range(5)
    ]
    assert np.mean(alone) == pytest.approx(
      float(loss_of(batch, self.stage)[0]), rel=1e-5
    )


def test_discount_credits_the_first_attempt():
  # gamma 0.8, alpha 1, scores 0 then 1: attempt 1 is credited with 0.8 * 2,
  # so that without a baseline each of its tokens has gradient -1.6 / B.
  stage = stage_coefficients.stage_two(alpha=1.0, discount=0.8)
  score = jnp.array([[0.0, 1], [0, 0]])
  shaped, valid = rewards.shape_rewards(score, SAMPLED, stage)
  gradient = jax.grad(
    lambda logprobs: losses.score_loss(
      logprobs, KL, shaped, TURN, valid, stage
    )[0]
  )(LOGPROBS)
  np.testing.assert_allclose(
    gradient[0], [0, -0.8, -0.8, 0, -1, -1, 0], rtol=1e-6
  )
  np.testing.assert_array_equal(gradient[1], 0)


def test_shapes_that_do_not_fit_are_rejected():
  with pytest.raises(AssertionError):
    losses.score_loss(
      LOGPROBS,
      KL,
      ADVANTAGES[:, :1],
      TURN,
      SAMPLED,
      stage_coefficients.stage_two(),
    )
  with pytest.raises(AssertionError):
    losses.score_loss(
      LOGPROBS[:, 1:],
      KL,
      ADVANTAGES,
      TURN,
      SAMPLED,
      stage_coefficients.stage_two(),
    )
