"""Random numbers as a function of what they are for.

A row's key is (seed, purpose, stage, step, problem, occurrence of that problem
in the batch, sample), folded one after the other into a threefry key; a
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
  """The key of one step's draws for one purpose.

  Raises:
    ValueError: the purpose is none of `PURPOSES`.
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
  """How often each id stood in the batch before, i32 [N]."""
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
  first_sample: int = 0,
) -> jax.Array:
  """Keys of N * G rows, problem-major.

  Args:
    key: from `stream`.
    problem_ids: of the N problems.
    samples_per_problem: G.
    first_sample: index of the first of the G samples.

  Returns:
    Threefry keys [N * G].
  """
  hashes = jnp.array([name_hash(name) for name in problem_ids], jnp.uint32)
  return _row_keys(
    key,
    hashes,
    jnp.asarray(occurrences(problem_ids)),
    first_sample + jnp.arange(samples_per_problem),
  ).reshape(-1)


@jax.jit
def _row_keys(key, hashes, occurrence, samples):
  def of_row(problem, occurrence, sample):
    parts = (problem, occurrence, sample)
    row = key
    for part in parts:
      row = jax.random.fold_in(row, part)
    return row

  per_problem = jax.vmap(of_row, in_axes=(None, None, 0))
  return jax.vmap(per_problem, in_axes=(0, 0, None))(
    hashes, occurrence, samples
  )


def uniforms(keys: jax.Array, length: int) -> jax.Array:
  """Uniforms in [0, 1) for every position of the rows, f32 [B, length]."""

  def of_token(key, position):
    return jax.random.uniform(jax.random.fold_in(key, position))

  of_row = jax.vmap(of_token, in_axes=(None, 0))
  of_rows = jax.vmap(of_row, in_axes=(0, None))
  return of_rows(keys, jnp.arange(length, dtype=jnp.int32))
