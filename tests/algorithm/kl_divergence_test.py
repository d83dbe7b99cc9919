"""What each form of the KL penalty is, against enumeration.

A policy over sequences of two tokens from a vocabulary of two: one logit for
the first token, one for the second after either first. All four sequences can
be written down, so values and expected gradients are exact.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.algorithm import (
  kl_divergence,
  losses,
  rewards,
  stage_coefficients,
)

pytestmark = pytest.mark.usefixtures('quick_compilation')

POLICY = jnp.array([0.4, -0.7, 1.1])  # first; second after 0; second after 1
REFERENCE = jnp.array([-0.3, 0.5, 0.2])
SEQUENCES = jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]])
TURN = jnp.array([[0, 1, 1]] * 4)  # one prompt token, one attempt of two
# One attempt, no reward, KL coefficient 1: the loss is the penalty alone.
KL_ONLY = stage_coefficients.make_stage([0.0], [0.0], [1.0])
# The same of a stage whose loss divides advantages by 1 + 10.
SCALED = stage_coefficients.make_stage(
  [0.0], [10.0], [1.0], normalize_bonus=True
)
SAMPLED = jnp.ones((4, 1), bool)


def logits(parameters):
  """Next-token logits at both positions of the four sequences: [4, 2, 2]."""
  after = jnp.stack([jnp.zeros(4, jnp.int32), 1 + SEQUENCES[:, 0]], axis=1)
  return jnp.stack([jnp.zeros((4, 2)), parameters[after]], axis=-1)


def token_logprobs(parameters):
  """[4, 2], log-probability of each token of each sequence."""
  logprobs = jax.nn.log_softmax(logits(parameters))
  return jnp.take_along_axis(logprobs, SEQUENCES[..., None], axis=-1)[..., 0]


def probabilities(parameters):
  """[4], of the sequences."""
  return jnp.exp(token_logprobs(parameters).sum(axis=1))


def packed(values):
  """Puts a prompt column before [4, 2] token values."""
  return jnp.pad(values, ((0, 0), (1, 0)))


def sequence_kl(parameters):
  """The definition: sum over sequences of pi * log(pi / ref)."""
  ratio = token_logprobs(parameters) - token_logprobs(REFERENCE)
  return (probabilities(parameters) * ratio.sum(axis=1)).sum()


def expected_loss(parameters, kl, advantages, stage):
  """E over sampled sequences of the loss of each as a batch of one."""

  def loss_of_row(*row):
    return losses.score_loss(*[x[None] for x in row], stage)[0]

  per_row = jax.vmap(loss_of_row)(
    packed(token_logprobs(parameters)), packed(kl), advantages, TURN, SAMPLED
  )
  # Sampling is not differentiated: that is what the loss is about.
  return (jax.lax.stop_gradient(probabilities(parameters)) * per_row).sum()


def exact_penalty(parameters):
  kl = kl_divergence.exact_kl(logits(parameters), logits(REFERENCE))
  return expected_loss(parameters, kl, jnp.zeros((4, 1)), KL_ONLY)


def in_reward_penalty(parameters, baseline=0.0, stage=KL_ONLY):
  reward = rewards.kl_rewards(
    packed(token_logprobs(parameters)),
    packed(token_logprobs(REFERENCE)),
    TURN,
    stage,
  )
  return expected_loss(
    parameters, jnp.zeros((4, 2)), reward - baseline, rewards.without_kl(stage)
  )


def k3_penalty(parameters):
  kl = kl_divergence.k3(token_logprobs(parameters), token_logprobs(REFERENCE))
  return expected_loss(parameters, kl, jnp.zeros((4, 1)), KL_ONLY)


def k1_penalty(parameters):
  kl = token_logprobs(parameters) - token_logprobs(REFERENCE)
  return expected_loss(parameters, kl, jnp.zeros((4, 1)), KL_ONLY)


def binary_kl(logit, reference_logit):
  """KL between Bernoullis by the textbook."""
  p, q = jax.nn.sigmoid(logit), jax.nn.sigmoid(reference_logit)
  return p * jnp.log(p / q) + (1 - p) * jnp.log((1 - p) / (1 - q))


class TestAgainstEnumeration:
  def test_expected_values_are_the_sequence_kl(self):
    # Chain rule: E[sum_t KL_t] = KL of the sequences; k1 and k3 are unbiased.
    value = float(sequence_kl(POLICY))
    assert value > 0.1
    for penalty in (exact_penalty, k3_penalty, k1_penalty):
      assert float(penalty(POLICY)) == pytest.approx(value, rel=1e-5)

  @pytest.mark.parametrize(
    ('baseline', 'stage'), [(0.0, KL_ONLY), (0.3, KL_ONLY), (0.3, SCALED)]
  )
  def test_in_reward_has_the_whole_gradient(self, baseline, stage):
    np.testing.assert_allclose(
      jax.grad(in_reward_penalty)(POLICY, baseline, stage),
      jax.grad(sequence_kl)(POLICY),
      atol=1e-6,
    )

  def test_exact_lacks_only_the_effect_on_later_kls(self):
    exact = jax.grad(exact_penalty)(POLICY)
    whole = jax.grad(sequence_kl)(POLICY)
    # Nothing comes after the second token: its logits' gradients are equal.
    np.testing.assert_allclose(exact[1:], whole[1:], atol=1e-6)
    # At the first they are not, and the difference is
    # sum over y1 of d pi(y1) * KL_2(y1), with KL_2 held constant.
    later = binary_kl(POLICY[1:], REFERENCE[1:])

    def effect_on_later(first):
      second = jax.nn.sigmoid(first)
      return (1 - second) * later[0] + second * later[1]

    missing = jax.grad(effect_on_later)(POLICY[0])
    assert abs(float(missing)) > 0.01
    np.testing.assert_allclose(whole[0] - exact[0], missing, atol=1e-6)

  def test_exact_is_the_gradient_of_each_tokens_kl(self):
    # dKL_1 at the first logit; pi(y1) * dKL_2(y1) at the second's.
    second = jax.nn.sigmoid(POLICY[0])
    slopes = jax.vmap(jax.grad(binary_kl))(POLICY, REFERENCE)
    weights = jnp.stack([1.0, 1 - second, second])
    np.testing.assert_allclose(
      jax.grad(exact_penalty)(POLICY), weights * slopes, atol=1e-6
    )

  def test_k3_pulls_along_the_other_direction(self):
    # The same with KL(reference || policy) in place of KL_t.
    second = jax.nn.sigmoid(POLICY[0])
    slopes = jax.vmap(jax.grad(lambda p, q: binary_kl(q, p)))(POLICY, REFERENCE)
    weights = jnp.stack([1.0, 1 - second, second])
    gradient = jax.grad(k3_penalty)(POLICY)
    np.testing.assert_allclose(gradient, weights * slopes, atol=1e-6)
    # And that is another gradient than the exact one's.
    assert np.abs(gradient - jax.grad(exact_penalty)(POLICY)).max() > 0.01

  def test_k1_as_a_loss_does_nothing(self):
    np.testing.assert_allclose(jax.grad(k1_penalty)(POLICY), 0, atol=1e-6)
    assert np.abs(jax.grad(sequence_kl)(POLICY)).max() > 0.05


class TestExactKl:
  def test_by_hand(self):
    # Policy 3/4, 1/4; reference 1/2, 1/2: log 2 + 3/4 log 3/4 + 1/4 log 1/4
    # = 0.693147 - 0.215762 - 0.346574 = 0.130812.
    policy = jnp.log(jnp.array([3.0, 1]))
    np.testing.assert_allclose(
      kl_divergence.exact_kl(policy, jnp.zeros(2)), 0.130812, rtol=1e-5
    )

  def test_direction(self):
    policy, reference = jnp.array([2.0, 0]), jnp.array([-1.0, 0])
    np.testing.assert_allclose(
      kl_divergence.exact_kl(policy, reference), binary_kl(2.0, -1.0), rtol=1e-5
    )

  def test_equal_distributions_have_none(self):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 4, 17)).astype(np.float32)
    # Logits that differ by a constant are one distribution.
    kl, gradient = jax.vjp(
      lambda x: kl_divergence.exact_kl(x, scores + 5), jnp.asarray(scores)
    )
    np.testing.assert_allclose(kl, np.zeros((3, 4)), atol=1e-5)
    (gradient,) = gradient(jnp.ones((3, 4)))
    np.testing.assert_allclose(gradient, np.zeros((3, 4, 17)), atol=1e-5)

  def test_padded_vocabulary_counts_for_nothing(self):
    rng = np.random.default_rng(0)
    policy, reference = rng.normal(size=(2, 6)).astype(np.float32)
    padding = np.full(3, -np.inf, np.float32)

    def padded(x):
      return kl_divergence.exact_kl(
        jnp.concatenate([x, padding]), jnp.concatenate([reference, padding])
      )

    value, gradient = jax.value_and_grad(padded)(policy)
    bare = jax.value_and_grad(kl_divergence.exact_kl)(policy, reference)
    np.testing.assert_allclose(value, bare[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, bare[1], rtol=1e-5, atol=1e-7)
    everywhere = jax.grad(kl_divergence.exact_kl)(
      jnp.concatenate([policy, padding]), jnp.concatenate([reference, padding])
    )
    assert np.isfinite(everywhere).all()

  def test_computes_in_f32(self):
    rng = np.random.default_rng(0)
    policy, reference = jnp.asarray(rng.normal(size=(2, 64)), jnp.bfloat16)
    kl = kl_divergence.exact_kl(policy, reference)
    assert kl.dtype == jnp.float32
    np.testing.assert_allclose(
      kl,
      kl_divergence.exact_kl(
        policy.astype(jnp.float32), reference.astype(jnp.float32)
      ),
    )

  def test_reference_is_constant(self):
    gradient = jax.grad(kl_divergence.exact_kl, argnums=1)(
      jnp.array([1.0, 0]), jnp.array([0.0, 1])
    )
    np.testing.assert_array_equal(gradient, 0)


class TestK3:
  def test_by_hand(self):
    # log pi = log 1/2, log ref = log 1/4: ratio 1/2; 1/2 - 1 + log 2.
    value = kl_divergence.k3(jnp.log(0.5), jnp.log(0.25))
    np.testing.assert_allclose(value, np.log(2) - 0.5, rtol=1e-6)

  def test_small_differences_keep_their_digits(self):
    # r = 1e-3: r^2 / 2 + r^3 / 6; exp(r) - 1 - r in f32 has two digits left.
    value = kl_divergence.k3(jnp.float32(0.0), jnp.float32(1e-3))
    np.testing.assert_allclose(value, 5e-7 + 1.667e-10, rtol=1e-3)
