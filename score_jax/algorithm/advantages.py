"""Advantages: rewards compared within the G samples of one problem.

Sequences are problem-major: i * G to i * G + G - 1 belong to problem i. Each
turn is compared with the same turn of other samples, never with another turn.
"""

import chex
import jax
import jax.numpy as jnp


def _centred_groups(
  rewards: jax.Array, valid: jax.Array, samples_per_problem: int
) -> tuple[jax.Array, jax.Array]:
  """Rewards less their problem's mean, and the problem's number of valid ones.

  Shapes [N, G, K] and [N, 1, K]. Centred values are 0 where invalid,
  and for a problem's only valid reward.
  """
  chex.assert_equal_shape([rewards, valid])
  batch, turns = rewards.shape
  if batch % samples_per_problem:
    raise ValueError(
      f'{batch} sequences do not divide into groups of {samples_per_problem}: '
      'a batch holds all samples of each of its problems, side by side'
    )
  groups = (batch // samples_per_problem, samples_per_problem, turns)
  rewards = rewards.astype(jnp.float32).reshape(groups)
  valid = valid.reshape(groups)
  count = valid.sum(axis=1, keepdims=True)
  # Equal rewards then cancel exactly, whatever their value: the f32 mean of 8
  # times 0.1 is not 0.1, and a problem without spread must not move the policy.
  offset = jnp.where(valid, rewards, -jnp.inf).max(axis=1, keepdims=True)
  rewards = jnp.where(valid, rewards - offset, 0)
  mean = rewards.sum(axis=1, keepdims=True) / jnp.maximum(count, 1)
  return jnp.where(valid, rewards - mean, 0), count


def leave_one_out(
  rewards: jax.Array, valid: jax.Array, samples_per_problem: int
) -> jax.Array:
  """RLOO: each reward less the mean of the problem's other valid rewards.

    A_i = r_i - 1/(n-1) * sum_{j != i} r_j = n/(n-1) * (r_i - mean r)

  Ahmadian et al., 2024, with which the paper trains (Eq. 2), per turn.

  Args:
    rewards: f32 [B, K].
    valid: bool [B, K]: the reward is known and the attempt was sampled from the
      policy (an off-policy attempt is neither trained nor in a baseline).
    samples_per_problem: G.

  Returns:
    f32 [B, K]; 0 where invalid and where a problem has fewer than two valid
    rewards for the turn.

  Raises:
    ValueError: B is no multiple of G.

  Example:
    >>> rewards = np.array([[3.0], [0.0], [0.0]])
    >>> valid = np.full((3, 1), True)
    >>> sj.leave_one_out(rewards, valid, samples_per_problem=3)
    Array([[ 3. ],
           [-1.5],
           [-1.5]], dtype=float32)
  """
  centred, count = _centred_groups(rewards, valid, samples_per_problem)
  factor = count / jnp.maximum(count - 1, 1)
  return (factor * centred).reshape(rewards.shape)


def has_spread(
  rewards: jax.Array, valid: jax.Array, samples_per_problem: int
) -> jax.Array:
  """Sequences of problems whose valid rewards differ in some turn, bool [B].

  The others have no advantage. DAPO (Yu et al., 2025, arXiv:2503.14476, section
  3.2) leaves them out of its batches, and samples others in their place.
  Arguments and errors are those of `leave_one_out`.
  """
  centred, _ = _centred_groups(rewards, valid, samples_per_problem)
  differs = (centred != 0).any(axis=(1, 2))
  return jnp.repeat(differs, samples_per_problem)


def group_normalized(
  rewards: jax.Array,
  valid: jax.Array,
  samples_per_problem: int,
  *,
  epsilon: float = 1e-6,
) -> jax.Array:
  """GRPO: (r - mean) / (std + epsilon) over the problem's valid rewards.

  Shao et al., 2024 (arXiv:2402.03300), section 4.1.2, per turn. The standard
  deviation divides by n, not n - 1. The method does not use it; comparisons do.
  Arguments, result and errors are those of `leave_one_out`.
  """
  centred, count = _centred_groups(rewards, valid, samples_per_problem)
  squares = (centred**2).sum(axis=1, keepdims=True)
  std = jnp.sqrt(squares / jnp.maximum(count, 1))
  return (centred / (std + epsilon)).reshape(rewards.shape)
