"""`draw` against an inverse CDF in float64, token by token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.rollout import sampling

pytestmark = pytest.mark.usefixtures('quick_compilation')

_ALMOST_ONE = np.float32(1 - 2**-24)


_ROWS = 4096  # one program for each vocabulary size
_compiled = jax.jit(sampling.draw)


def _draw(logits, uniform):
  """`draw` for logits [V] or [n, V] and n uniforms, i32 [n]."""
  count = len(uniform)
  logits = np.broadcast_to(logits, (count, np.shape(logits)[-1]))
  padded = np.zeros((_ROWS, logits.shape[1]), np.float32)
  padded[:count] = logits
  numbers = np.zeros(_ROWS, np.float32)
  numbers[:count] = uniform
  return np.asarray(_compiled(padded, numbers))[:count]


def _cdf(logits):
  """Upper ends of the tokens' intervals, f64 [B, V]."""
  logits = np.asarray(logits, np.float64)
  weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
  ends = np.cumsum(weights, axis=-1)
  return ends / ends[:, -1:]


def test_larger_blocks_draw_the_same():
  """A TPU's blocks, of a vocabulary that neither size divides."""
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(512, 300)).astype(np.float32)
  uniform = rng.random(512, np.float32)
  draw = jax.jit(sampling.draw, static_argnums=2)
  found = draw(logits, uniform, sampling.ACCELERATOR_BLOCK)
  distance = np.abs(_cdf(logits) - uniform[:, None]).min(axis=1)
  same = draw(logits, uniform, sampling.CPU_BLOCK) == found
  assert same[distance > 1e-6].all()
  np.testing.assert_array_equal(
    found[distance > 1e-6],
    (_cdf(logits) <= uniform[:, None]).sum(axis=1)[distance > 1e-6],
  )


@pytest.mark.parametrize('vocab', [1, 2, 3, 17, 63, 64, 65, 127, 128, 130, 300])
@pytest.mark.parametrize('scale', [0.0, 1.0, 8.0])
def test_every_interval_is_the_token_s_probability(vocab, scale):
  """A sweep over the unit interval: the tokens change where the CDF says.

  Each of the sweep's uniforms must give the float64 token, unless it lies
  within 1e-6 of a boundary (float32 sums of at most 300 weights). So every
  token's share of [0, 1) is its probability to 2e-6: the distribution is
  checked without a statistical test.
  """
  rng = np.random.default_rng(vocab)
  sweep = (np.arange(_ROWS) / _ROWS).astype(np.float32)
  logits = (rng.normal(size=vocab) * scale).astype(np.float32)
  drawn = _draw(logits, sweep)
  ends = _cdf(logits[None])[0]
  expected = np.searchsorted(ends, sweep, side='right')
  distance = np.abs(ends[None] - sweep[:, None].astype(np.float64)).min(axis=1)
  clear = distance > 1e-6
  assert clear.mean() > 0.99 or scale == 0.0 or vocab == 1
  np.testing.assert_array_equal(drawn[clear], expected[clear])
  assert (np.diff(drawn) >= 0).all()


_SIZES = [1, 2, 3, 4, 7, 17, 32, *range(62, 67), 96, *range(127, 131)]


@pytest.mark.parametrize('vocab', _SIZES)
def test_both_ends_of_the_unit_interval(vocab):
  logits = np.random.default_rng(vocab).normal(size=(2, vocab))
  drawn = _draw(logits.astype(np.float32), np.array([0.0, _ALMOST_ONE]))
  assert drawn.tolist() == [0, vocab - 1]


def test_rows_are_independent_of_each_other():
  rng = np.random.default_rng(0)
  logits = (3 * rng.normal(size=(2000, 130))).astype(np.float32)
  uniform = rng.random(2000, dtype=np.float32)
  drawn = _draw(logits, uniform)
  expected = np.array(
    [np.searchsorted(e, u, side='right') for e, u in zip(_cdf(logits), uniform)]
  )
  ends = _cdf(logits)
  same = drawn == expected
  assert same.mean() > 0.999
  for row in np.flatnonzero(~same):
    assert np.abs(ends[row] - uniform[row]).min() < 1e-6


_NEVER = {
  'minus infinity': -np.inf,
  'the most negative float': np.finfo(np.float32).min,
  'underflows to zero': -200.0,
}


@pytest.mark.parametrize('value', _NEVER.values(), ids=_NEVER)
@pytest.mark.parametrize('vocab', [3, 64, 130, 300])
def test_never_a_token_without_probability(value, vocab):
  # Half of the tokens have no weight, the first and the last among them; the
  # uniforms are the boundaries themselves and their neighbours in float32.
  rng = np.random.default_rng(vocab)
  logits = rng.normal(size=vocab).astype(np.float32)
  dead = rng.random(vocab) < 0.5
  dead[[0, -1]] = True
  dead[vocab // 2] = False
  logits[dead] = value
  ends = _cdf(logits[None])[0].astype(np.float32)
  uniform = np.concatenate(
    [[0.0, _ALMOST_ONE], ends, np.nextafter(ends, 0), np.nextafter(ends, 2)]
  )
  uniform = np.clip(uniform, 0, _ALMOST_ONE).astype(np.float32)
  drawn = _draw(logits, uniform)
  assert not dead[drawn].any()
  assert set(drawn) == set(np.flatnonzero(~dead))


def test_sums_that_creep_up_choose_no_token_without_weight():
  """A parallel sum may round so that it grows where nothing was added."""
  weights = jnp.array([[1.0, 0.0, 2.0, 0.0]])
  ends = jnp.array([[1.0, 1.5, 3.0, 3.5]])
  for target, expected in ((0.0, 0), (1.2, 2), (2.9, 2), (3.2, 2), (4.0, 2)):
    index = sampling._first_above(weights, ends, jnp.array([target]))
    assert index.tolist() == [expected], target


@pytest.mark.parametrize('vocab', [1, 64, 130])
@pytest.mark.parametrize('place', [0, -1])
def test_one_huge_logit_takes_all(vocab, place):
  logits = np.zeros((3, vocab), np.float32)
  logits[:, place] = 1e30
  drawn = _draw(logits, np.array([0.0, 0.5, _ALMOST_ONE], np.float32))
  assert drawn.tolist() == [place % vocab] * 3
  np.testing.assert_array_equal(sampling.logprob(jnp.asarray(logits), drawn), 0)


def test_adding_a_constant_changes_nothing():
  # Powers of two add without rounding to logits that are multiples of 2^-6.
  rng = np.random.default_rng(0)
  logits = (rng.integers(-300, 300, (500, 96)) / 64).astype(np.float32)
  uniform = rng.random(500, dtype=np.float32)
  np.testing.assert_array_equal(
    _draw(logits, uniform), _draw(logits + 1024, uniform)
  )


def test_logprob_by_hand():
  # softmax([log 1, log 2, log 5]) = 1/8, 2/8, 5/8.
  logits = jnp.log(jnp.array([[1.0, 2.0, 5.0]] * 3))
  np.testing.assert_allclose(
    sampling.logprob(logits, jnp.arange(3)),
    np.log([1 / 8, 2 / 8, 5 / 8]),
    rtol=1e-6,
  )
