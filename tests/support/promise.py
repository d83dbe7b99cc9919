"""Tokens of two programs differ at ties only.

For a greedy token the candidates are the two tokens, and the distance is that
of their logits. A drawn token is a choice between the tokens left and right of
each boundary of the CDF: the boundary at probability F separates two candidates
with logits a = logsumexp(left) and b = logsumexp(right), F = sigmoid(a - b). If
every logit moves by at most 5e-4, which is what closes a gap of 1e-3, so do a
and b, and F by at most 1e-3 / 4, the sigmoid's slope being at most 1/4. So the
first difference in a sequence can only occur where the uniform lies within
2.5e-4 of the boundaries between the two tokens that were drawn.
"""

import jax
import numpy as np

from tests.support import slow_episode, small_models

GREEDY = 1e-3
DRAWN = 2.5e-4


def sequence_of(trajectory, index: int):
  """One sequence of a trajectory, as a trajectory of batch size one."""
  return jax.tree.map(lambda x: np.asarray(x)[index : index + 1], trajectory)


def distance(name: str, one, other, temperature: float, uniforms=None):
  """Distance of two sequences' first difference from a tie; None if equal.

  Args:
    name: of the model, in `small_models`.
    one: a trajectory of one sequence.
    other: the same sequence from another program.
    temperature: of the draws.
    uniforms: f32 [T] of the sequence; None: greedy.

  Returns:
    Difference of the two tokens' logits, or of the uniform and the further of
    the two tokens' boundaries.
  """
  a, b = np.asarray(one.tokens[0]), np.asarray(other.tokens[0])
  if (a == b).all():
    return None
  t = int(np.argmax(a != b))
  logits = small_models.full_logits(
    small_models.CONFIGS[name],
    small_models.params(name),
    np.asarray(one.tokens),
    np.array([t], np.int32),
  )[0, t - 1]
  low, high = sorted((int(a[t]), int(b[t])))
  if uniforms is None:
    return abs(float(logits[low] - logits[high]))
  logprobs = slow_episode.log_softmax(np.asarray(logits) / temperature)
  ends = np.cumsum(np.exp(logprobs))
  return max(abs(ends[low] - uniforms[t]), abs(ends[high - 1] - uniforms[t]))


def count_equal(name: str, one, other, temperature: float, uniforms=None):
  """Number of equal sequences; asserts that the others differ at ties."""
  equal = 0
  for i in range(one.tokens.shape[0]):
    uniform = None if uniforms is None else uniforms[i]
    gap = distance(
      name, sequence_of(one, i), sequence_of(other, i), temperature, uniform
    )
    assert gap is None or gap < (GREEDY if uniforms is None else DRAWN), i
    equal += gap is None
  return equal
