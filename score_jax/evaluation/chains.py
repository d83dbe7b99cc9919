"""Chains of attempts, each of which sees only the one before it.

For more attempts than the episodes that a policy was trained on have: an
episode of two attempts is repeated, the second attempt of each given, token for
token, as the first attempt of the next.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax

from score_jax import types
from score_jax.rollout import episodes, given_attempts


def sample_chain(
  sampler: episodes.EpisodeSampler,
  params: Any,
  problems: Sequence[types.Problem],
  key: jax.Array,
  **options: Any,
) -> list[list[types.Attempt]]:
  """K attempts of each sequence, [B] lists, for the sampler's K.

  Collective: call it in every process.

  Args:
    sampler: samples the episodes; its `max_new_tokens` are all equal.
    params: the policy, from `inference.inference_params`.
    problems: N of them.
    key: from `randomness.stream`; the first two attempts equal those of an
      episode of two with this key.
    **options: of `EpisodeSampler.sample`.
  """
  total = len(sampler.max_new_tokens)
  turns = min(2, total)
  trajectory = sampler.sample(params, problems, key, turns=turns, **options)
  attempts = sampler.attempts(trajectory)
  for turn in range(3, total + 1):
    trajectory = sampler.sample(
      params,
      problems,
      jax.random.fold_in(key, turn),
      turns=2,
      given=given_attempts.first_attempts_of(
        trajectory,
        attempt=2,
        turns=2,
        max_new_tokens=sampler.max_new_tokens[0],
      ),
      **options,
    )
    for chain, (_, attempt) in zip(attempts, sampler.attempts(trajectory)):
      chain.append(dataclasses.replace(attempt, turn=turn))
  return attempts
