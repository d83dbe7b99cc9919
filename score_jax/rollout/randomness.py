"""Random numbers as a function of what they are for.

A sequence's key is (seed, purpose, stage, step, problem, occurrence of that
problem in the batch, sample), folded one after the other into a threefry key; a
token's uniform folds in its position. Nothing is stored, and nothing depends
on the batch, the mesh or the number of hosts.
"""

from collections.abc import Sequence
import zlib

import jax
import jax.numpy as jnp
import numpy as np

PURPOSES = ('init', 'train', 'evaluate', 'collect', 'pretrain')


def stream(seed: int, purpose: str, stage: str, step: int) -> jax.Array:
  """The key of one step's draws for one purpose, threefry [].

  Raises:
    ValueError: the purpose is not in `PURPOSES`.

  Example:
    >>> key = sj.step_key(0, 'train', 'stage1', 17)
    >>> key.shape
    ()
  """
  if purpose not in PURPOSES:
    raise ValueError(f'unknown purpose {purpose!r}: use one of {PURPOSES}')
  key = jax.random.key(seed, impl='threefry2x32')
  for part in (PURPOSES.index(purpose), name_hash(stage), step):
    key = jax.random.fold_in(key, part)
  return key


def name_hash(name: str) -> int:
  """A stable 32-bit number of a name (crc32)."""
  return zlib.crc32(name.encode())


def occurrences(ids: Sequence[str]) -> np.ndarray:
  """Number of times each id occurs earlier in the batch, i32 [N]."""
  seen: dict[str, int] = {}
  counts = []
  for name in ids:
    counts.append(seen.get(name, 0))
    seen[name] = counts[-1] + 1
  return np.array(counts, np.int32)


def sequence_keys(
  key: jax.Array,
  problem_ids: Sequence[str],
  samples_per_problem: int,
) -> jax.Array:
  """Keys of N * G sequences, problem-major.

  Args:
    key: from `stream`.
    problem_ids: of the N problems.
    samples_per_problem: G.

  Returns:
    Threefry keys [N * G].
  """
  hashes = jnp.array([name_hash(name) for name in problem_ids], jnp.uint32)
  return _fold_keys(
    key,
    hashes,
    jnp.asarray(occurrences(problem_ids)),
    jnp.arange(samples_per_problem),
  ).reshape(-1)


@jax.jit
def _fold_keys(key, hashes, occurrence, samples):
  def of_sequence(problem, occurrence, sample):
    own = key
    for part in (problem, occurrence, sample):
      own = jax.random.fold_in(own, part)
    return own

  per_problem = jax.vmap(of_sequence, in_axes=(None, None, 0))
  return jax.vmap(per_problem, in_axes=(0, 0, None))(
    hashes, occurrence, samples
  )


def uniforms(keys: jax.Array, length: int) -> jax.Array:
  """Uniforms in [0, 1) for every position of B sequences, f32 [B, length]."""

  def of_token(key, position):
    return jax.random.uniform(jax.random.fold_in(key, position))

  of_sequence = jax.vmap(of_token, in_axes=(None, 0))
  of_batch = jax.vmap(of_sequence, in_axes=(0, None))
  return of_batch(keys, jnp.arange(length, dtype=jnp.int32))
