"""The stage table is the paper's, and a stage is data to the compiler."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.algorithm import (
  ablations,
  adaptive,
  losses,
  rewards,
  stage_coefficients,
)

# name: (stage, reward weight, progress bonus, KL coefficient, scale, gamma)
TABLE = {
  # Eq. 3 with Table 8's MATH column: beta1 everywhere, beta2 on attempt 1.
  'stage1': (
    stage_coefficients.stage_one(),
    [0, 1],
    [0, 0],
    [0.11, 0.01],
    [1, 1],
    0,
  ),
  # Table 8's MBPP column.
  'stage1 MBPP': (
    stage_coefficients.stage_one(beta2=0.25),
    [0, 1],
    [0, 0],
    [0.26, 0.01],
    [1, 1],
    0,
  ),
  # Eq. 4 and the bonus.
  'stage2': (
    stage_coefficients.stage_two(),
    [1, 1],
    [0, 10],
    [0.01, 0.01],
    [1, 1],
    0,
  ),
  'stage2 normalised': (
    stage_coefficients.stage_two(normalize_bonus=True),
    [1, 1],
    [0, 10],
    [0.01, 0.01],
    [1, 1 / 11],
    0,
  ),
  # Stage 1(b): reward turn 3, hold turns 1 and 2.
  'stage1b': (
    stage_coefficients.score_stages(3)['stage1b'],
    [0, 0, 1],
    [0, 0, 0],
    [0.11, 0.11, 0.01],
    [1, 1, 1],
    0,
  ),
  # 'a bonus on the difference to the immediately previous attempt'
  'stage2 of three': (
    stage_coefficients.score_stages(3)['stage2'],
    [1, 1, 1],
    [0, 10, 10],
    [0.01, 0.01, 0.01],
    [1, 1, 1],
    0,
  ),
  'single turn': (ablations.single_turn(), [1], [0], [0.01], [1], 0),
  'single of two': (
    ablations.single_turn(turns=2),
    [1, 0],
    [0, 0],
    [0.01, 0],
    [1, 1],
    0,
  ),
  'multi-turn': (
    ablations.multi_turn(),
    [1, 1],
    [0, 0],
    [0.01, 0.01],
    [1, 1],
    0,
  ),
  'multi-turn, (x2, y2) only': (
    ablations.multi_turn(only_last=True),
    [0, 1],
    [0, 0],
    [0, 0.01],
    [1, 1],
    0,
  ),
  # 'w/o reward shaping' in Table 4.
  'no bonus': (
    stage_coefficients.stage_two(alpha=0.0),
    [1, 1],
    [0, 0],
    [0.01, 0.01],
    [1, 1],
    0,
  ),
  # The appendix's gamma = 0.8 and alpha = 1, which still collapses.
  'discounted': (
    stage_coefficients.stage_two(alpha=1.0, discount=0.8),
    [1, 1],
    [0, 1],
    [0.01, 0.01],
    [1, 1],
    0.8,
  ),
}


@pytest.mark.parametrize('name', TABLE)
def test_table_is_the_papers(name):
  stage, *expected = TABLE[name]
  fields = [
    stage.reward_weight,
    stage.progress_bonus,
    stage.kl_coefficient,
    stage.advantage_scale,
    stage.discount,
  ]
  for field, value in zip(fields, expected):
    assert field.dtype == np.float32
    np.testing.assert_allclose(field, value, rtol=1e-6)
  assert stage.turns == len(expected[0])


def test_score_stages_names_and_order():
  assert list(stage_coefficients.score_stages(2)) == ['stage1', 'stage2']
  three = stage_coefficients.score_stages(3)
  assert list(three) == ['stage1a', 'stage1b', 'stage2']
  assert [stage.turns for stage in three.values()] == [2, 3, 3]
  # Stage 1(a) is Stage I of two turns: maximise r(y2), y1 close to the base.
  np.testing.assert_array_equal(three['stage1a'].reward_weight, [0, 1])
  four = stage_coefficients.score_stages(4)
  assert list(four) == ['stage1a', 'stage1b', 'stage1c', 'stage2']


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: stage_coefficients.stage_one(beta1=-0.1), 'kl_coefficient'),
    (
      lambda: stage_coefficients.stage_two(alpha=float('nan')),
      'progress_bonus',
    ),
    (lambda: stage_coefficients.stage_two(discount=1.5), 'discount is 1.5'),
    (lambda: stage_coefficients.stage_one(turns=1), 'at least 2'),
    (lambda: ablations.single_turn(turns=0), 'at least 1'),
    (
      lambda: stage_coefficients.make_stage([1.0], [0.0], [0.1, 0.1]),
      'kl_coefficient',
    ),
  ],
)
def test_impossible_stages_are_rejected(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_another_stage_does_not_recompile():
  turn = jnp.array([[0, 1, 1, 0, 2]] * 2)
  score, graded = jnp.eye(2), jnp.ones((2, 2), bool)

  @jax.jit
  @chex.assert_max_traces(n=1)
  def update(logprobs, stage):
    reward, valid = rewards.shape_rewards(score, graded, stage)
    loss, _ = losses.score_loss(
      logprobs, jnp.ones_like(logprobs), reward, turn, valid, stage
    )
    return loss

  logprobs = -jnp.ones((2, 5))
  values = [
    float(update(logprobs, stage))
    for stage in (
      stage_coefficients.stage_one(),
      stage_coefficients.stage_two(),
      stage_coefficients.stage_two(normalize_bonus=True),
      stage_coefficients.stage_two(alpha=1.0, discount=0.8),
      adaptive.with_beta2(stage_coefficients.stage_one(beta2=0.0), 0.2),
      adaptive.with_beta2(
        stage_coefficients.stage_one(beta2=0.0), jnp.float32(0.3)
      ),
      rewards.without_kl(stage_coefficients.stage_two()),
    )
  ]
  assert len(set(values)) == len(values)
