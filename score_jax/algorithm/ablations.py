"""The paper's baselines and ablations as values of the same record."""

import dataclasses

import numpy as np

from score_jax.algorithm import stage_coefficients


def single_turn(
  beta1: float = 0.01, turns: int = 1
) -> stage_coefficients.Stage:
  """Single-turn RL, Eq. 2: 'w/o multi-turn training' in Table 4.

  With more than one turn the later attempts carry neither reward nor KL.
  """
  stage_coefficients.require_turns(turns, 1)
  later = [0.0] * (turns - 1)
  return stage_coefficients.make_stage(
    [1.0] + later, [0.0] + later, [beta1] + later
  )


def multi_turn(
  beta1: float = 0.01, turns: int = 2, *, only_last: bool = False
) -> stage_coefficients.Stage:
  """Standard multi-turn RL, Eq. 1: no bonus, and no Stage I before it.

  Args:
    beta1: coefficient of the KL on the turns that are trained.
    turns: K.
    only_last: train the last attempt alone, on pairs (x_K, y_K): earlier turns
      carry neither reward nor KL. The baseline in the paper's figure of the
      collapse.
  """
  stage_coefficients.require_turns(turns, 2)
  trained = [0.0 if only_last else 1.0] * (turns - 1) + [1.0]
  return stage_coefficients.make_stage(
    trained, [0.0] * turns, [beta1 * on for on in trained]
  )


def with_every_reward(
  stage: stage_coefficients.Stage,
) -> stage_coefficients.Stage:
  """The stage with weight 1 on every attempt's own score."""
  return dataclasses.replace(
    stage, reward_weight=np.ones_like(stage.reward_weight)
  )
