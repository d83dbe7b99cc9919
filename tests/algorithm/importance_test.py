"""Truncated importance weights by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.algorithm import importance, masked

pytestmark = pytest.mark.usefixtures('quick_compilation')

# Probabilities 0.5, 0.2, 0.9 and 0.6 where the sampler had 0.25, 0.4, 0.1, 0.6:
# ratios of 2, 1/2, 9 and 1.
LOGPROBS = jnp.log(jnp.array([[0.5, 0.2, 0.9, 0.6]]))
SAMPLER = jnp.log(jnp.array([[0.25, 0.4, 0.1, 0.6]]))
EVERY = jnp.ones((1, 4), bool)


def test_ratios_up_to_the_cap():
  weights = importance.truncated_weights(LOGPROBS, SAMPLER, EVERY, 4.0)
  np.testing.assert_allclose(weights, [[2, 0.5, 4, 1]], rtol=1e-5)


def test_what_was_not_sampled_has_weight_one():
  # Whatever is there, such as log-probabilities of padding.
  weights = importance.truncated_weights(
    LOGPROBS.at[0, 0].set(jnp.nan),
    SAMPLER,
    jnp.array([[False, True, False, True]]),
    4.0,
  )
  np.testing.assert_allclose(weights, [[1, 0.5, 1, 1]], rtol=1e-5)


def test_a_token_that_the_sampler_hardly_knew_is_capped():
  # exp(120) is more than float32 has.
  weights = importance.truncated_weights(
    jnp.zeros((1, 1)), jnp.full((1, 1), -120.0), jnp.ones((1, 1), bool), 2.0
  )
  assert float(weights[0, 0]) == 2.0


def test_weights_are_constants():
  gradient = jax.grad(
    lambda x: importance.truncated_weights(x, SAMPLER, EVERY, 4.0).sum()
  )(LOGPROBS)
  np.testing.assert_array_equal(gradient, 0)


def test_metrics_are_of_the_tokens_in_the_loss():
  metrics = importance.weight_metrics(
    jnp.array([[2, 0.5, 4, 1]]), jnp.array([[True, True, True, False]]), 4.0
  )
  # 6.5 over three tokens, one of which the cap has lowered.
  assert masked.means(metrics) == pytest.approx(
    {'importance/mean': 6.5 / 3, 'importance/truncated': 1 / 3}
  )
