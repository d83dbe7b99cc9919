"""The KL in the reward, of a real run's programs, against slow loops."""

import dataclasses

import numpy as np
import pytest

from experiments.run import building, policies, run_directory
from experiments.stages import rl_stage
from score_jax.algorithm import stage_coefficients
from score_jax.rollout import randomness

# Advantages of turn 2 are divided by 11 in the loss.
STAGE = stage_coefficients.stage_two(beta1=0.3, normalize_bonus=True)
SAMPLES = 4


@pytest.fixture(name='case', scope='module')
def fixture_case(finished):
  """What KL advantages are made of; one attempt has no loss."""
  run = building.reopen(run_directory.RunDirectory(finished))
  base, reference = (
    policies.stage_policy(run, name) for name in ('base', 'stage2')
  )
  trajectory = run.sampler.sample(
    run.layout.inference_params(base),
    run.batch(0),
    randomness.stream(0, 'train', 'stage1', 0),
    samples_per_problem=SAMPLES,
  )
  update = rl_stage.make_update(run, 4)
  loss_mask = np.ones(trajectory.finished.shape, bool)
  loss_mask[1, 1] = False
  return run, (update, STAGE, reference, trajectory, loss_mask)


def slow_advantages(logprobs, reference_logprobs, turn, loss_mask):
  """-0.3 * log-ratio of each attempt, less the mean of the group's others."""
  costs = np.zeros(loss_mask.shape)
  for b, k in np.ndindex(*costs.shape):
    for t in np.flatnonzero(turn[b] == k + 1):
      costs[b, k] -= 0.3 * (logprobs[b, t] - reference_logprobs[b, t])
  found = np.zeros(costs.shape)
  for b, k in np.argwhere(loss_mask):
    first = b // SAMPLES * SAMPLES
    others = [
      costs[j, k]
      for j in range(first, first + SAMPLES)
      if j != b and loss_mask[j, k]
    ]
    found[b, k] = costs[b, k] - np.mean(others)
  return found


def test_the_weight_of_the_kl_is_not_scaled(case):
  run, (update, stage, reference, trajectory, loss_mask) = case
  settings = dataclasses.replace(run.settings, kl='reward')
  run = dataclasses.replace(run, settings=settings)
  found = rl_stage.kl_advantages(
    run,
    stage,
    rl_stage.reference_logprobs(run, update, reference, trajectory),
    trajectory,
    loss_mask,
  )
  expected = slow_advantages(
    np.asarray(trajectory.logprobs),
    np.asarray(update.reference_logprobs(reference, trajectory)),
    np.asarray(trajectory.turn),
    loss_mask,
  )
  assert np.abs(expected).max() > 1e-3
  # As the loss sees them.
  np.testing.assert_allclose(
    found * stage.advantage_scale[None], expected, atol=1e-5
  )


def test_other_forms_are_not_in_the_advantages(case):
  run, (update, stage, reference, trajectory, loss_mask) = case
  assert run.settings.kl == 'exact'
  none = rl_stage.reference_logprobs(run, update, reference, trajectory)
  assert none is None
  found = rl_stage.kl_advantages(run, stage, none, trajectory, loss_mask)
  assert found == 0
