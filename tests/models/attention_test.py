"""Attention of whole rows against loops, and its gradient against autodiff."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.models import attention

# Every mask and cap; 130 tokens are three chunks, the last one shorter.
SHAPES = [
  (5, None, None),
  (5, 2, 3.0),
  (130, None, None),
  (130, None, 3.0),
  (130, 50, None),
  (200, 7, 3.0),
]


def _inputs(length, heads=4, kv_heads=2, head_dim=6, seed=0):
  rng = np.random.default_rng(seed)
  sizes = (heads, kv_heads, kv_heads, heads)
  return [
    jnp.asarray(rng.normal(size=(2, length, n, head_dim)), jnp.float32)
    for n in sizes
  ]


def _plain(q, k, v, window, softcap):
  """The same with all scores at once, differentiated by jax."""
  group = q.shape[2] // k.shape[2]
  k, v = jnp.repeat(k, group, axis=2), jnp.repeat(v, group, axis=2)
  scores = jnp.einsum('bqnh,bsnh->bnqs', q, k)
  if softcap:
    scores = softcap * jnp.tanh(scores / softcap)
  index = jnp.arange(q.shape[1])
  seen = index[None] <= index[:, None]
  if window:
    seen &= index[None] > index[:, None] - window
  weights = jax.nn.softmax(jnp.where(seen[None, None], scores, -jnp.inf))
  return jnp.einsum('bnqs,bsnh->bqnh', weights, v)


def test_three_tokens_by_hand():
  # One head of one number; q = 1, so scores are the keys. Token 2 sees keys
  # log 1, log 2, log 5 with values 8, 4, 0: (8 + 2 * 4 + 5 * 0) / 8 = 2. With a
  # window of two it sees the last two: 2 * 4 / 7.
  q = jnp.ones((1, 3, 1, 1))
  k = jnp.log(jnp.array([1.0, 2.0, 5.0])).reshape(1, 3, 1, 1)
  v = jnp.array([8.0, 4.0, 0.0]).reshape(1, 3, 1, 1)
  found = attention.attend(q, k, v)[0, :, 0, 0]
  np.testing.assert_allclose(found, [8, (8 + 2 * 4) / 3, 2], rtol=1e-6)
  found = attention.attend(q, k, v, window=2)[0, :, 0, 0]
  np.testing.assert_allclose(found, [8, (8 + 2 * 4) / 3, 8 / 7], rtol=1e-6)


@pytest.mark.parametrize(('length', 'window', 'softcap'), SHAPES)
def test_values_and_gradients_are_those_of_autodiff(length, window, softcap):
  *qkv, direction = _inputs(length)

  def both(function):
    out, pull = jax.vjp(function, *qkv)
    return out, pull(direction)

  found = jax.jit(
    lambda: both(
      functools.partial(attention.attend, window=window, softcap=softcap)
    )
  )()
  expected = jax.jit(
    lambda: both(functools.partial(_plain, window=window, softcap=softcap))
  )()
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=5e-6), found, expected
  )


def test_bfloat16_is_as_good_as_its_inputs():
  """Scores and sums are f32: the error is that of rounding weights once."""
  *qkv, direction = _inputs(130)
  half = [x.astype(jnp.bfloat16) for x in qkv]

  @jax.jit
  def both(qkv, direction):
    out, pull = jax.vjp(
      functools.partial(attention.attend, window=50, softcap=3.0), *qkv
    )
    return out, pull(direction.astype(out.dtype))

  found = both(half, direction)
  wide = [x.astype(jnp.float32) for x in half]
  expected = both(wide, direction.astype(jnp.bfloat16).astype(jnp.float32))
  for a, b in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    assert a.dtype == jnp.bfloat16
    scale = jnp.abs(b).max()
    # 2^-8 of rounding the result, twice that of the weights.
    np.testing.assert_allclose(
      a.astype(jnp.float32), b, atol=float(scale) * 3 * 2**-8
    )


def test_scores_are_not_kept_for_the_backward_pass():
  """Kept are q, k, v, the result and one number for each row of scores."""
  qkv = _inputs(1024)[:3]
  kept = jax.eval_shape(lambda *x: jax.vjp(attention.attend, *x)[1], *qkv)
  linear = 2 * 1024 * (4 * 6 + 2 * 6 + 2 * 6 + 4 * 6 + 4)
  assert sum(leaf.size for leaf in jax.tree.leaves(kept)) <= linear


@pytest.mark.parametrize(
  ('platform', 'dtype', 'softcap', 'path'),
  [
    ('cpu', jnp.bfloat16, None, 'xla'),
    ('tpu', jnp.bfloat16, 50.0, 'splash'),
    ('gpu', jnp.bfloat16, None, 'cudnn'),
    ('gpu', jnp.bfloat16, 50.0, 'xla'),
    ('gpu', jnp.float32, None, 'xla'),
  ],
)
def test_each_platform_has_its_path(platform, dtype, softcap, path):
  assert attention.default_path(platform, dtype, softcap) == path


def test_cudnn_refuses_what_it_would_get_wrong():
  with pytest.raises(ValueError, match='attention=xla .* attention_softcap=3'):
    attention.attend(*_inputs(5)[:3], softcap=3.0, path='cudnn')
