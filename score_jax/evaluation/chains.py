"""Attempts that see only the one before them, as many as wanted.

An episode of two attempts repeated: each last attempt is given, token for
token, as the first one of another episode. For policies that know episodes of
two attempts and no longer ones.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_jax import arrays, types
from score_jax.rollout import episodes, turn_separator


def sample_chain(
  sampler: episodes.EpisodeSampler,
  params: Any,
  problems: Sequence[types.Problem],
  key: jax.Array,
  **options: Any,
) -> list[list[types.Attempt]]:
  """K attempts of each row, as many as the sampler makes.

  Args:
    sampler: makes the episodes; all its `max_new_tokens` are alike.
    params: the policy, from `inference.inference_params`.
    problems: N of them.
    key: from `randomness.stream`; the first two attempts are those that an
      episode of two has with it.
    **options: of `EpisodeSampler.sample`.
  """
  total = len(sampler.max_new_tokens)
  turns = min(2, total)
  trajectory = sampler.sample(params, problems, key, turns=turns, **options)
  rows = sampler.attempts(trajectory)
  for turn in range(3, total + 1):
    trajectory = sampler.sample(
      params,
      problems,
      jax.random.fold_in(key, turn),
      turns=2,
      given=_second_as_first(trajectory, sampler.max_new_tokens[0]),
      **options,
    )
    for row, (_, attempt) in zip(rows, sampler.attempts(trajectory)):
      row.append(dataclasses.replace(attempt, turn=turn))
  return rows


def _second_as_first(
  trajectory: arrays.Trajectory, limit: int
) -> turn_separator.GivenAttempts:
  """The second attempts, to be given as first ones of two."""
  tokens, turn = jax.device_get((trajectory.tokens, trajectory.turn))
  given = np.zeros((len(tokens), 2, limit), np.int32)
  length = np.zeros((len(tokens), 2), np.int32)
  for row, (ids, owner) in enumerate(zip(tokens, turn)):
    attempt = ids[owner == 2]
    given[row, 0, : len(attempt)] = attempt
    length[row, 0] = len(attempt)
  return turn_separator.GivenAttempts(jnp.asarray(given), jnp.asarray(length))
