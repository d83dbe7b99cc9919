"""Chunked statistics against one [B, T, V] array."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.algorithm import kl_divergence
from score_jax.models import token_logprobs, transformer
from tests.support import small_models

_CONFIG = small_models.CONFIGS['gemma2']  # soft-capped logits
_B, _T, _V, _D = 3, 23, _CONFIG.vocab_size, _CONFIG.width
_TEMPERATURE = 0.6


def _inputs(length=_T):
  rng = np.random.default_rng(0)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  tokens = jnp.asarray(rng.integers(0, _V, (_B, length)), jnp.int32)
  policy = (normal(_V, _D), normal(_B, length, _D))
  reference = (normal(_V, _D), normal(_B, length, _D))
  return tokens, policy, reference


def _whole(tokens, policy, reference):
  """The same numbers from arrays [B, T - 1, V], a zero before them."""
  logits, other = (
    transformer.unembed(_CONFIG, embedding, hidden[:, :-1]) / _TEMPERATURE
    for embedding, hidden in (policy, reference)
  )
  logprobs, other_logprobs = (
    jax.nn.log_softmax(logits),
    jax.nn.log_softmax(other),
  )
  targets = tokens[:, 1:, None]
  statistics = token_logprobs.TokenStatistics(
    logprob=jnp.take_along_axis(logprobs, targets, axis=-1)[..., 0],
    reference_logprob=jnp.take_along_axis(other_logprobs, targets, axis=-1)[
      ..., 0
    ],
    divergence=(jnp.exp(logprobs) * (logprobs - other_logprobs)).sum(axis=-1),
    entropy=-(jnp.exp(logprobs) * logprobs).sum(axis=-1),
  )
  return jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (1, 0))), statistics)


@functools.partial(jax.jit, static_argnames='chunk')
def _chunked(tokens, policy, reference, chunk):
  return token_logprobs.token_statistics(
    _CONFIG,
    *policy,
    tokens,
    temperature=_TEMPERATURE,
    reference=reference,
    divergence=kl_divergence.exact_kl,
    chunk=chunk,
  )


# 22 predicted tokens: a remainder, an exact division, all at once.
_CHUNKS = [5, 11, 128]


@pytest.mark.parametrize('chunk', _CHUNKS)
def test_every_chunk_size_gives_the_numbers_of_the_whole(chunk):
  tokens, policy, reference = _inputs()
  chunked = _chunked(tokens, policy, reference, chunk)
  whole = jax.jit(_whole)(tokens, policy, reference)
  for name in ('logprob', 'reference_logprob', 'divergence', 'entropy'):
    value = getattr(chunked, name)
    assert value.shape == (_B, _T)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, getattr(whole, name), atol=1e-5)
    assert not value[:, 0].any()


def test_a_token_is_predicted_from_the_tokens_before_it():
  # Changing hidden state 7 changes what is said of token 8 only.
  tokens, policy, reference = _inputs()
  before = _chunked(tokens, policy, reference, 5).logprob
  moved = (policy[0], policy[1].at[:, 7].add(1.0))
  after = _chunked(tokens, moved, reference, 5).logprob
  changed = np.asarray(before != after).all(axis=0)
  np.testing.assert_array_equal(np.flatnonzero(changed), [8])


def _loss(statistics, weights):
  return jnp.sum(
    weights[0] * statistics.logprob + weights[1] * statistics.divergence
  )


def test_gradients_equal_those_of_the_whole():
  tokens, policy, reference = _inputs()
  weights = jax.random.normal(jax.random.key(0), (2, _B, _T))

  def gradients(function):
    def loss(policy, reference):
      return _loss(function(tokens, policy, reference), weights)

    return jax.jit(jax.grad(loss, argnums=(0, 1)))(policy, reference)

  chunked, held = gradients(functools.partial(_chunked, chunk=5))
  whole, _ = gradients(_whole)
  for one, other in zip(chunked, whole):
    assert np.abs(other).max() > 0.1
    np.testing.assert_allclose(one, other, atol=2e-5)
  # The reference is held constant, and entropy is only looked at.
  assert all(not leaf.any() for leaf in held)
  entropy = jax.grad(lambda p: _chunked(tokens, p, None, 5).entropy.sum())(
    policy
  )
  assert all(not leaf.any() for leaf in entropy)


def test_without_a_reference_its_columns_are_zero():
  tokens, policy, _ = _inputs()
  statistics = _chunked(tokens, policy, None, 5)
  assert not statistics.reference_logprob.any()
  assert not statistics.divergence.any()


def test_a_vocabulary_padded_with_minus_infinity():
  """Two more rows whose logit is minus infinity change no number."""
  tokens, (embedding, hidden), _ = _inputs()
  hidden = hidden.at[..., 0].set(1.0)
  row = jnp.zeros((2, _D)).at[:, 0].set(-jnp.inf)
  config = small_models.CONFIGS['gemma1']  # without a soft-cap
  small, padded = (
    token_logprobs.token_statistics(config, table, hidden, tokens)
    for table in (embedding, jnp.concatenate([embedding, row]))
  )
  np.testing.assert_allclose(small.logprob, padded.logprob, atol=1e-6)
  np.testing.assert_allclose(small.entropy, padded.entropy, atol=1e-6)


def test_no_logits_of_whole_rows_are_ever_made():
  """B = 3, T = 401, V = 61: chunks of 16 tokens in both directions."""
  tokens, policy, reference = _inputs(length=401)
  weights = jnp.ones((2, _B, 401))

  def text(chunk):
    def loss(policy, reference, tokens, weights):
      return _loss(_chunked(tokens, policy, reference, chunk), weights)

    compiled = jax.jit(jax.value_and_grad(loss))
    arguments = (policy, reference, tokens, weights)
    return compiled.lower(*arguments).compile().as_text()

  def largest(text):
    shapes = re.findall(r'f32\[([\d,]+)\]', text)
    return max(math.prod(map(int, dims.split(','))) for dims in shapes)

  # What is larger than a chunk's logits is the hidden states, [B, 400, 24].
  assert largest(text(16)) <= _B * 401 * _D
  assert largest(text(400)) == _B * 400 * _V
