"""Every method's stages, and every objective, against numbers by hand."""

import dataclasses
import io

import jax.numpy as jnp
import numpy as np
import pytest
from rich import console as rich_console

from experiments import methods
from experiments.config import checks, command_line, fields, schema
from experiments.run import policies
from score_jax.algorithm import (
  adaptive,
  advantages,
  losses,
  repair_pairs,
  rewards,
)
from tests.support import small_run

FLAGS = (
  *small_run.FLAGS,
  '--steps-stage1=5',
  '--steps-stage2=6',
  '--alpha=10',
  # Otherwise every scale is 1.
  '--normalize-bonus',
  '--beta1=0.01',
  '--beta2=0.1',
)


def stages(method, *more):
  return methods.stages(
    command_line.parse_settings([*FLAGS, f'--method={method}', *more])
  )


# method: stages as (name, steps, start, reference or source).
STAGES = {
  'score': [('stage1', 5, 'base', 'base'), ('stage2', 6, 'stage1', 'base')],
  'base': [],
  'self_refine': [('self_refine', 0, 'base', None)],
  # 11 batches in three rounds; each starts from the base and samples with the
  # newest.
  'star': [
    ('round1', 3, 'base', 'base'),
    ('round2', 4, 'base', 'round1'),
    ('round3', 4, 'base', 'round2'),
  ],
  'star_plus': [
    ('round1', 3, 'base', 'base'),
    ('round2', 4, 'base', 'round1'),
    ('round3', 4, 'base', 'round2'),
  ],
  'pair_sft': [('pair_sft', 11, 'base', 'base')],
  'pair_sft_plus': [('pair_sft_plus', 11, 'base', 'base')],
  'single_turn': [('single_turn', 11, 'base', 'base')],
  'multi_turn_fig5': [('multi_turn_fig5', 11, 'base', 'base')],
  'multi_turn': [('multi_turn', 11, 'base', 'base')],
  'grpo': [('grpo', 11, 'base', 'base')],
  'without_stage1': [('stage2', 11, 'base', 'base')],
  'without_bonus': [
    ('stage1', 5, 'base', 'base'),
    ('stage2', 6, 'stage1', 'base'),
  ],
  'star_stage2': [
    ('stage1', 5, 'base', 'base'),
    ('round1', 2, 'stage1', 'stage1'),
    ('round2', 2, 'stage1', 'round1'),
    ('round3', 2, 'stage1', 'round2'),
  ],
  'offline_first_attempts': [
    ('stage1', 5, 'base', 'base'),
    ('stage2', 6, 'stage1', 'base'),
  ],
  'discount_08': [('stage2', 11, 'base', 'base')],
  'adaptive_beta2': [
    ('stage1', 5, 'base', 'base'),
    ('stage2', 6, 'stage1', 'base'),
  ],
  # Every Stage I is KL-anchored to the base, as in Eq. 3.
  'interleaved': [
    ('stage1_1', 2, 'base', 'base'),
    ('stage2_1', 3, 'stage1_1', 'base'),
    ('stage1_2', 3, 'stage2_1', 'base'),
    ('stage2_2', 3, 'stage1_2', 'base'),
  ],
  'pag_baseline': [
    ('stage1', 5, 'base', 'base'),
    ('stage2', 6, 'stage1', 'base'),
  ],
  'cocos_baseline': [('cocos_baseline', 11, 'base', 'base')],
}


def summary(table):
  return [
    (
      name,
      stage.steps,
      stage.start,
      getattr(stage, 'reference', getattr(stage, 'source', None)),
    )
    for name, stage in table.items()
  ]


@pytest.mark.parametrize('method', methods.METHODS)
def test_stages(method):
  assert summary(stages(method)) == STAGES[method]


@pytest.mark.parametrize('method', methods.METHODS)
def test_one_budget_for_all(method):
  steps = sum(stage.steps for stage in stages(method).values())
  assert steps == (0 if method in ('base', 'self_refine') else 11)


@pytest.mark.parametrize('method', methods.METHODS)
def test_all_see_the_same_problems_in_the_same_order(method):
  numbers = [
    number
    for stage in stages(method).values()
    if stage.steps
    for number in range(stage.first_batch, stage.first_batch + stage.steps)
  ]
  assert numbers == list(range(len(numbers)))


def test_three_turns():
  table = stages('score', '--turns=3')
  assert summary(table) == [
    ('stage1a', 5, 'base', 'base'),
    ('stage1b', 5, 'stage1a', 'stage1a'),
    ('stage2', 6, 'stage1b', 'base'),
  ]
  assert [stage.coefficients.turns for stage in table.values()] == [2, 3, 3]
  # One more Stage I, for every method.
  assert stages('multi_turn', '--turns=3')['multi_turn'].steps == 16
  assert stages('grpo', '--turns=3')['grpo'].coefficients.turns == 3
  assert summary(stages('interleaved', '--turns=3')) == [
    ('stage1a_1', 2, 'base', 'base'),
    ('stage1b_1', 2, 'stage1a_1', 'stage1a_1'),
    ('stage2_1', 3, 'stage1b_1', 'base'),
    ('stage1a_2', 3, 'stage2_1', 'base'),
    ('stage1b_2', 3, 'stage1a_2', 'stage1a_2'),
    ('stage2_2', 3, 'stage1b_2', 'base'),
  ]


def test_supervised_stages():
  table = stages('star_plus')
  assert all(stage.construct is repair_pairs.star for stage in table.values())
  assert all(stage.both_right for stage in table.values())
  # Every round samples at other problems.
  assert [stage.first_batch for stage in table.values()] == [0, 3, 7]
  assert not stages('star')['round1'].both_right
  going_on = stages('star', '--sft.from-newest')
  assert summary(going_on)[1:] == [
    ('round2', 4, 'round1', 'round1'),
    ('round3', 4, 'round2', 'round2'),
  ]
  for method, both_right in (('pair_sft', False), ('pair_sft_plus', True)):
    (stage,) = stages(method).values()
    assert stage.construct is repair_pairs.pair_sft
    assert stage.both_right == both_right


def test_given_attempts_and_adaptation():
  table = stages('offline_first_attempts')
  assert [stage.given_share for stage in table.values()] == [0, 1]
  table = stages('adaptive_beta2')
  assert [stage.is_adaptive for stage in table.values()] == [True, False]
  # What an adaptive beta2 is added to.
  np.testing.assert_allclose(table['stage1'].coefficients.kl_coefficient, 0.01)
  table = stages('score', '--given-attempts-share=0.5', '--adaptive-beta2')
  assert [stage.given_share for stage in table.values()] == [0, 0.5]
  assert [stage.is_adaptive for stage in table.values()] == [True, False]


def test_what_later_stages_read():
  table = stages('score', '--turns=3')
  assert policies.needed_later(table, 'stage1a') == {
    'base',
    'stage1a',
    'stage1b',
  }
  assert policies.needed_later(table, 'stage1b') == {'base', 'stage1b'}
  assert policies.needed_later(table, 'stage2') == set()
  assert policies.needed_later(stages('star'), 'round2') == {'base', 'round2'}


# (method, stage, flags): reward weights, bonus, KL coefficients, scale of the
# advantages, discount, whether they are group-normalised.
STAGE1 = ([0, 1], [0, 0], [0.11, 0.01], [1, 1], 0, False)
STAGE2 = ([1, 1], [0, 10], [0.01, 0.01], [1, 1 / 11], 0, False)
NO_BONUS = ([1, 1], [0, 0], [0.01, 0.01], [1, 1], 0, False)
THREE = ('--turns=3',)
OBJECTIVES = {
  ('score', 'stage1', ()): STAGE1,
  ('score', 'stage2', ()): STAGE2,
  ('score', 'stage2', ('--no-normalize-bonus',)): (
    *STAGE2[:3], [1, 1], 0, False
  ),
  ('single_turn', 'single_turn', ()): ([1], [0], [0.01], [1], 0, False),
  ('multi_turn_fig5', 'multi_turn_fig5', ()): (
    [0, 1], [0, 0], [0, 0.01], [1, 1], 0, False
  ),
  ('multi_turn', 'multi_turn', ()): NO_BONUS,
  ('grpo', 'grpo', ()): (*NO_BONUS[:5], True),
  ('without_stage1', 'stage2', ()): STAGE2,
  ('without_bonus', 'stage1', ()): STAGE1,
  ('without_bonus', 'stage2', ()): NO_BONUS,
  ('star_stage2', 'stage1', ()): STAGE1,
  ('offline_first_attempts', 'stage1', ()): STAGE1,
  ('offline_first_attempts', 'stage2', ()): STAGE2,
  # A discount is of Stage II alone: Stage I does not reward turn 1.
  ('score', 'stage1', ('--discount=0.8',)): STAGE1,
  ('score', 'stage2', ('--discount=0.8',)): (*STAGE2[:4], 0.8, False),
  ('discount_08', 'stage2', ()): (
    [1, 1], [0, 1], [0.01, 0.01], [1, 1 / 2], 0.8, False
  ),
  ('adaptive_beta2', 'stage1', ()): STAGE1,
  ('adaptive_beta2', 'stage2', ()): STAGE2,
  ('interleaved', 'stage1_1', ()): STAGE1,
  ('interleaved', 'stage2_1', ()): STAGE2,
  ('interleaved', 'stage1_2', ()): STAGE1,
  ('interleaved', 'stage2_2', ()): STAGE2,
  ('pag_baseline', 'stage1', ()): ([1, 1], [0, 0], [0.1, 0], [1, 1], 0, False),
  ('pag_baseline', 'stage2', ()): (
    [1, 1], [0, 1], [0, 0], [1, 1 / 2], 0, False
  ),
  ('cocos_baseline', 'cocos_baseline', ()): (
    [0, 1], [0, 0], [0, 0.01], [1, 1], 0, False
  ),
  # Appendix A.1: r(y2) with y1 KL-anchored; r(y3) with y1 and y2; all of them,
  # with a bonus over the attempt before.
  ('score', 'stage1a', THREE): STAGE1,
  ('score', 'stage1b', THREE): (
    [0, 0, 1], [0, 0, 0], [0.11, 0.11, 0.01], [1, 1, 1], 0, False
  ),
  ('score', 'stage2', THREE): (
    [1, 1, 1], [0, 10, 10], [0.01] * 3, [1, 1 / 11, 1 / 11], 0, False
  ),
}  # fmt: skip
ROWS, SAMPLES, TOKENS = 8, 4, 14


def make_batch(turns, seed):
  """Two problems of four episodes: scores, some ungraded, some given."""
  rng = np.random.default_rng((seed, turns))
  turn = np.zeros((ROWS, TOKENS), np.int32)
  for row in turn:
    edges = np.sort(rng.choice(np.arange(1, TOKENS), 2 * turns, replace=False))
    for k in range(turns):
      row[edges[2 * k] : edges[2 * k + 1]] = k + 1
  sampled = np.ones((ROWS, turns), bool)
  sampled[[1, 5], 0] = False
  return {
    'score': rng.integers(0, 2, (ROWS, turns)).astype(np.float32),
    'graded': rng.random((ROWS, turns)) < 0.85,
    'logprobs': -rng.exponential(size=turn.shape).astype(np.float32),
    'kl': rng.exponential(size=turn.shape).astype(np.float32),
    'turn': turn,
    'sampled': sampled,
  }


def slow_loss(
  batch,
  weight,
  bonus,
  kl_coefficient,
  scale,
  gamma,
  normalised,
  kl_in_reward=False,
):
  """What the paper says, row by row, turn by turn, token by token.

  With the KL in the reward `kl` has log pi - log pi_ref of each token.
  """
  turns = len(weight)
  reward = [[None] * turns for _ in range(ROWS)]
  for b in range(ROWS):
    for k in reversed(range(turns)):
      if not batch['graded'][b, k]:
        continue
      value = weight[k] * batch['score'][b, k]
      if k and bonus[k]:
        if not batch['graded'][b, k - 1]:
          continue
        value += bonus[k] * (batch['score'][b, k] - batch['score'][b, k - 1])
      if gamma and k + 1 < turns:
        if reward[b][k + 1] is None:
          continue
        value += gamma * reward[b][k + 1]
      reward[b][k] = value
  loss = 0.0
  for b in range(ROWS):
    for k in range(turns):
      if not (batch['sampled'][b, k] and batch['graded'][b, k]):
        continue
      first = b // SAMPLES * SAMPLES
      group = {
        row: reward[row][k]
        for row in range(first, first + SAMPLES)
        if reward[row][k] is not None and batch['sampled'][row, k]
      }
      advantage = 0.0
      if b in group and normalised:
        values = list(group.values())
        advantage = (group[b] - np.mean(values)) / (np.std(values) + 1e-6)
      elif b in group and len(group) > 1:
        others = [value for row, value in group.items() if row != b]
        advantage = group[b] - np.mean(others)
      advantage *= scale[k]
      if kl_in_reward:
        # Neither normalised nor scaled: the weight of the KL is its own.
        cost = {
          row: kl_coefficient[k]
          * batch['kl'][row][batch['turn'][row] == k + 1].sum()
          for row in range(first, first + SAMPLES)
          if batch['sampled'][row, k] and batch['graded'][row, k]
        }
        others = [value for row, value in cost.items() if row != b]
        advantage -= cost[b] - np.mean(others) if others else 0.0
      for t in range(TOKENS):
        if batch['turn'][b, t] == k + 1:
          loss -= advantage * batch['logprobs'][b, t]
          if not kl_in_reward:
            loss += kl_coefficient[k] * batch['kl'][b, t]
  return loss / ROWS


@pytest.mark.parametrize('kl_in_reward', [False, True])
@pytest.mark.parametrize('seed', [0, 1, 2])
@pytest.mark.parametrize('key', OBJECTIVES, ids=lambda key: '-'.join(key[:2]))
def test_each_objective_is_that_of_slow_loops(key, seed, kl_in_reward):
  method, name, more = key
  stage = stages(method, *more)[name]
  coefficients = stage.coefficients
  batch = make_batch(coefficients.turns, seed)
  if stage.is_adaptive:
    coefficients = adaptive.with_beta2(coefficients, 0.1)
  reward, valid = rewards.shape_rewards(
    jnp.asarray(batch['score']), jnp.asarray(batch['graded']), coefficients
  )
  loss_mask = jnp.asarray(batch['sampled'] & batch['graded'])
  advantage = stage.advantages(reward, valid & loss_mask, SAMPLES)
  if kl_in_reward:
    logprobs, turn = jnp.asarray(batch['logprobs']), jnp.asarray(batch['turn'])
    costs = rewards.kl_rewards(
      logprobs, logprobs - batch['kl'], turn, coefficients
    )
    advantage += advantages.leave_one_out(costs, loss_mask, SAMPLES)
    coefficients = rewards.without_kl(coefficients)
  loss, _ = losses.score_loss(
    jnp.asarray(batch['logprobs']),
    jnp.asarray(batch['kl']),
    advantage,
    jnp.asarray(batch['turn']),
    loss_mask,
    coefficients,
  )
  expected = slow_loss(batch, *OBJECTIVES[key], kl_in_reward)
  assert float(loss) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_kl_in_the_reward_is_not_normalised():
  # Scores are equal, log-ratios of turn 2 are 0.3 and -0.1 in one group and 0
  # and 0.2 in the other. With c = 0.01: -0.01 * 0.4 = -0.004 and 0.004; 0.002
  # and -0.002. Divided by their own standard deviation they would be -1 and 1.
  # The loss multiplies by the scale 1 / 11, which is undone.
  stage = stages('score', '--normalize-bonus')['stage2']
  turn = jnp.array([[1, 2]] * 4)
  logprobs = jnp.array([[-1.0, -1], [-1, -1], [-1, -1], [-1, -1]])
  reference = logprobs - jnp.array([[0, 0.3], [0, -0.1], [0, 0], [0, 0.2]])
  costs = rewards.kl_rewards(logprobs, reference, turn, stage.coefficients)
  every = jnp.ones((4, 2), bool)
  found = advantages.leave_one_out(costs, every, 2)
  found *= stage.coefficients.advantage_scale[None]
  expected = [[0, -0.004], [0, 0.004], [0, 0.002], [0, -0.002]]
  np.testing.assert_allclose(found, expected, atol=1e-7)
  equal = jnp.ones((4, 2))
  assert not stages('grpo')['grpo'].advantages(equal, every, 2).any()


def test_every_objective_is_tested():
  reinforced = {
    (method, name)
    for method in methods.METHODS
    for name, stage in stages(method).items()
    if isinstance(stage, methods.RLStage)
  }
  assert reinforced == {key[:2] for key in OBJECTIVES if key[2] == ()}


@pytest.mark.parametrize(
  ('flag', 'says'),
  [
    (('--method=star', '--turns=3'), '--method=star'),
    (('--method=grpo', '--turns=1'), '--method=grpo'),
    (('--method=multi_turn', '--stage=2'), '--stage=2'),
    (('--sft.right-share=1.5',), '--sft.right-share'),
    (('--sft.epochs=0',), '--sft.epochs'),
  ],
)
def test_impossible_methods_are_rejected(flag, says, capsys):
  with pytest.raises(SystemExit) as stop:
    command_line.parse_settings([*FLAGS, *flag])
  assert stop.value.code == 2
  assert says in capsys.readouterr().err


def test_a_new_method_is_one_row(monkeypatch, capsys):
  def toy(settings):
    table = methods.stages(dataclasses.replace(settings, method='score'))
    return {'stage1': table['stage1']}

  row = methods.Method('Toy', 'ablation', toy, 'Stage I alone')
  monkeypatch.setitem(methods.METHODS, 'toy', row)
  assert summary(stages('toy', '--stage=1')) == [('stage1', 5, 'base', 'base')]
  settings = command_line.parse_settings([*FLAGS, '--method=toy'])
  assert (
    fields.from_record(schema.Settings, dataclasses.asdict(settings))
    == settings
  )
  longer = dataclasses.replace(settings, steps_stage1=9)
  assert checks.may_change_steps(settings, longer, lambda name: True)
  # What the row does not say is rejected.
  for wrong in ('--stage=2', '--turns=1'):
    with pytest.raises(SystemExit):
      command_line.parse_settings([*FLAGS, '--method=toy', wrong])
    assert '--method=toy' in capsys.readouterr().err


# (method, changed settings, stages that have begun, whether it may go on).
CONTINUED = [
  ('score', {'steps_stage1': 9, 'steps_stage2': 9}, [], True),
  ('score', {'steps_stage1': 9}, ['stage1'], True),
  ('score', {'steps_stage1': 9}, ['stage1', 'stage2'], False),
  ('score', {'steps_stage2': 9}, ['stage1', 'stage2'], True),
  ('score', {'steps_stage1': 9}, ['base'], True),
  # Stage 1b starts from what Stage 1a learnt in its steps.
  ('score', {'steps_stage1': 9}, ['stage1a'], True),
  ('score', {'steps_stage1': 9}, ['stage1a', 'stage1b'], False),
  # One stage with the whole budget.
  ('multi_turn', {'steps_stage1': 9}, ['multi_turn'], True),
  ('without_stage1', {'steps_stage1': 9}, ['stage2'], True),
  # 11 batches in rounds of 3, 4, 4; 12 in 4, 4, 4; 10 in 3, 3, 4.
  ('star', {'steps_stage2': 7}, [], True),
  ('star', {'steps_stage2': 7}, ['round1'], False),
  ('star', {'steps_stage2': 5}, ['round1'], True),
  ('star', {'steps_stage2': 5}, ['round1', 'round2'], False),
  ('pair_sft', {'steps_stage2': 9}, ['pair_sft'], False),
  # Rounds of 2, 2, 2, or of 2, 2, 3 and 2, 3, 3.
  ('star_stage2', {'steps_stage1': 9}, ['stage1'], True),
  ('star_stage2', {'steps_stage1': 9}, ['stage1', 'round1'], False),
  ('star_stage2', {'steps_stage2': 7}, ['stage1', 'round1', 'round2'], True),
  ('star_stage2', {'steps_stage2': 8}, ['stage1', 'round1', 'round2'], False),
  # 5 // 2 and 6 // 2 steps in the first half.
  ('interleaved', {'steps_stage2': 8}, ['stage1_1'], True),
  ('interleaved', {'steps_stage2': 8}, ['stage1_1', 'stage2_1'], True),
  ('interleaved', {'steps_stage2': 8},
   ['stage1_1', 'stage2_1', 'stage1_2'], False),
  ('base', {'steps_stage1': 9}, [], True),
]  # fmt: skip


@pytest.mark.parametrize(('method', 'changes', 'begun', 'allowed'), CONTINUED)
def test_a_run_may_be_made_longer(method, changes, begun, allowed):
  turns = 3 if 'stage1a' in begun else 2
  existing = command_line.parse_settings(
    [*FLAGS, f'--method={method}', f'--turns={turns}']
  )
  wanted = dataclasses.replace(existing, **changes)
  has_begun = begun.__contains__
  assert checks.may_change_steps(existing, existing, has_begun)
  assert checks.may_change_steps(existing, wanted, has_begun) == allowed


@pytest.mark.parametrize('schedule', ['linear', 'cosine'])
def test_no_longer_stage_where_the_learning_rate_falls_with_it(schedule):
  existing = command_line.parse_settings(
    [*FLAGS, f'--optimizer.schedule={schedule}']
  )
  wanted = dataclasses.replace(existing, steps_stage2=9)
  # The steps of a stage that has not begun are free.
  for begun, allowed in ((['stage1'], True), (['stage1', 'stage2'], False)):
    assert (
      checks.may_change_steps(existing, wanted, begun.__contains__) == allowed
    )


@pytest.mark.parametrize('lag', [0, 1])
def test_with_a_lag_intervals_are_what_the_run_began_with(lag):
  existing = command_line.parse_settings([*FLAGS, f'--rollout.lag={lag}'])
  free = checks.free(existing, existing, lambda name: False)
  # They decide which batches are sampled by the newest policy.
  assert {'checkpoint_every', 'eval_every'} & free == (
    set() if lag else {'checkpoint_every', 'eval_every'}
  )


def test_the_table_is_printed():
  console = rich_console.Console(file=io.StringIO(), width=200)
  methods.print_methods(console)
  said = console.file.getvalue()
  for name, method in methods.METHODS.items():
    assert name in said
    assert method.title in said
