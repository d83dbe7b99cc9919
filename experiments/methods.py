"""The methods of the paper, and SCoRe as others have it, as stages in order.

A stage makes one policy from earlier ones. An ablation differs from SCoRe in
the values of its stages, never by a branch of a loop; a new method is one more
row of `METHODS`. All methods have SCoRe's budget of episodes and updates.

`python -m experiments.methods` prints the table.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Literal

from rich import box
from rich import console as rich_console
from rich import table as rich_table

from experiments.config import schema
from score_jax.algorithm import (
  ablations,
  advantages,
  repair_pairs,
  stage_coefficients,
)

BASE = 'base'
_STAGE_TITLES = {BASE: 'Base', 'stage1': 'Stage I', 'stage2': 'Stage II'}


@dataclasses.dataclass(frozen=True, eq=False)
class RLStage:
  """A policy made by reinforcement learning.

  Attributes:
    coefficients: coefficients of its objective, for K turns.
    steps: number of updates, each on N * G new episodes.
    start: name of the policy that it starts from: `base` or an earlier stage.
    reference: name of the policy that it is KL-anchored to.
    advantages: a function of `algorithm.advantages`.
    given_share: share of each problem's episodes whose first attempt is
      off-policy, sampled by the reference policy.
    is_adaptive: beta2 adapts, and is added to the coefficients at every step.
    first_batch: see `stages`.
  """

  coefficients: stage_coefficients.Stage
  steps: int
  start: str = BASE
  reference: str = BASE
  advantages: Callable = advantages.leave_one_out
  given_share: float = 0.0
  is_adaptive: bool = False
  first_batch: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class SFTStage:
  """A policy fine-tuned on repairs that another one sampled.

  Attributes:
    construct: a function of `algorithm.repair_pairs` that pairs attempts.
    both_right: also learn from pairs of two right attempts.
    steps: number of sampled batches of N * G episodes, and bound on updates.
    start: name of the policy that is fine-tuned.
    source: name of the policy that is sampled from.
    first_batch: see `stages`.
  """

  construct: repair_pairs.Construction
  both_right: bool
  steps: int
  start: str = BASE
  source: str = BASE
  first_batch: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class PromptStage:
  """An untrained policy with another instruction between its attempts."""

  start: str = BASE
  steps: int = 0


Stage = RLStage | SFTStage | PromptStage
Stages = dict[str, Stage]


@dataclasses.dataclass(frozen=True)
class Method:
  """A row of the paper's tables, or of others'.

  Attributes:
    title: its name in tables.
    kind: the group that it is listed in.
    stages: returns the stages that it trains, by name, in order; raises
      ValueError for a number of turns that it is not defined for.
    description: one line.
  """

  title: str
  kind: Literal[
    'prompting', 'supervised', 'reinforced', 'score', 'ablation', 'others'
  ]
  stages: Callable[[schema.Settings], Stages]
  description: str


def stages(settings: schema.Settings) -> Stages:
  """The stages that these settings train after the base policy, by name.

  `first_batch` of each is the number of batches of problems that earlier stages
  have had: every method sees the same problems in the same order.
  """
  table, first = {}, 0
  for name, stage in METHODS[settings.method].stages(settings).items():
    if stage.steps:
      stage = dataclasses.replace(stage, first_batch=first)
    table[name] = stage
    first += stage.steps
  return table


def policy_label(settings: schema.Settings, name: str) -> str:
  """Name of a policy in tables; the last one has the method's title."""
  shown = _STAGE_TITLES.get(name, name)
  if name not in list(stages(settings))[-1:]:
    return shown
  title = METHODS[settings.method].title
  return title if name == settings.method else f'{shown} ({title})'


def budget(settings: schema.Settings) -> int:
  """Number of updates of a method: those of SCoRe's stages together."""
  stages_one = max(1, settings.turns - 1)
  return stages_one * settings.steps_stage1 + settings.steps_stage2


def _score(settings: schema.Settings) -> Stages:
  """Stage I (of every turn but the first), then Stage II."""
  coefficients = stage_coefficients.score_stages(
    settings.turns,
    alpha=settings.alpha,
    beta1=settings.beta1,
    # An adaptive beta2 is added to the coefficients of each step.
    beta2=0.0 if settings.adaptive_beta2 else settings.beta2,
    normalize_bonus=settings.normalize_bonus,
    discount=settings.discount,
  )
  table: Stages = {}
  before = BASE
  for name, one in coefficients.items():
    if name == 'stage2':
      own = {'given_share': settings.given_attempts_share}
      steps = settings.steps_stage2
    else:
      # Every Stage I is KL-anchored to the policy that it starts from.
      own = {'reference': before, 'is_adaptive': settings.adaptive_beta2}
      steps = settings.steps_stage1
    table[name] = RLStage(one, steps, start=before, **own)
    before = name
  return table


def _with(
  make: Callable[[schema.Settings], Stages], **changes
) -> Callable[[schema.Settings], Stages]:
  """The stages of a method with these settings changed."""
  return lambda settings: make(dataclasses.replace(settings, **changes))


def _rewarded_throughout(settings: schema.Settings) -> Stages:
  """SCoRe whose Stage I rewards every attempt, too."""
  return {
    name: dataclasses.replace(
      stage, coefficients=ablations.with_every_reward(stage.coefficients)
    )
    for name, stage in _score(settings).items()
  }


def _without_stage1(settings: schema.Settings) -> Stages:
  """Stage II with the whole budget, from the base policy."""
  stage = _score(settings)['stage2']
  return {
    'stage2': dataclasses.replace(stage, start=BASE, steps=budget(settings))
  }


def _interleaved(settings: schema.Settings) -> Stages:
  """Both stages twice, half as long each time, KL-anchored as they are once."""
  table: Stages = {}
  before = BASE
  for number in (1, 2):
    # Of an odd number of steps the second half has one more.
    half = dataclasses.replace(
      settings,
      steps_stage1=(settings.steps_stage1 + number - 1) // 2,
      steps_stage2=(settings.steps_stage2 + number - 1) // 2,
    )
    for name, stage in _score(half).items():
      reference = stage.reference
      if reference != BASE:
        reference = f'{reference}_{number}'
      table[f'{name}_{number}'] = dataclasses.replace(
        stage, start=before, reference=reference
      )
      before = f'{name}_{number}'
  return table


def _rl(
  make_coefficients: Callable[..., stage_coefficients.Stage], **fields
) -> Callable[[schema.Settings], Stages]:
  """One stage of RL from the base policy, named after the method."""

  def make(settings):
    coefficients = make_coefficients(settings.beta1, settings.turns)
    stage = RLStage(coefficients, budget(settings), **fields)
    return {settings.method: stage}

  return make


def _rounds(
  settings: schema.Settings,
  steps: int,
  *,
  start: str = BASE,
  both_right: bool = False,
) -> Stages:
  """STaR: rounds of sampling with the newest policy and fine-tuning."""
  count = settings.sft.rounds
  table: Stages = {}
  source = start
  for number in range(1, count + 1):
    share = steps * number // count - steps * (number - 1) // count
    table[f'round{number}'] = SFTStage(
      repair_pairs.star,
      both_right,
      share,
      start=source if settings.sft.from_newest else start,
      source=source,
    )
    source = f'round{number}'
  return table


def _star(*, both_right: bool) -> Callable[[schema.Settings], Stages]:
  return lambda settings: _rounds(
    settings, budget(settings), both_right=both_right
  )


def _star_stage2(settings: schema.Settings) -> Stages:
  table = _score(settings)
  del table['stage2']
  return table | _rounds(settings, settings.steps_stage2, start=list(table)[-1])


def _pair_sft(*, both_right: bool) -> Callable[[schema.Settings], Stages]:
  return lambda settings: {
    settings.method: SFTStage(
      repair_pairs.pair_sft, both_right, budget(settings)
    )
  }


def _self_refine(settings: schema.Settings) -> Stages:
  stage_coefficients.require_turns(settings.turns, 2)
  return {'self_refine': PromptStage()}


METHODS: dict[str, Method] = {
  'base': Method(
    'Base', 'prompting', lambda settings: {},
    'nothing is trained'),
  'self_refine': Method(
    'Self-Refine', 'prompting', _self_refine,
    'the base policy, asked for feedback and a better attempt'),
  'star': Method(
    'STaR, D', 'supervised', _star(both_right=False),
    'fine-tuned on its own repairs within an episode, three rounds'),
  'star_plus': Method(
    'STaR, D+', 'supervised', _star(both_right=True),
    'the same, and episodes with two right attempts'),
  'pair_sft': Method(
    'Pair-SFT, D', 'supervised', _pair_sft(both_right=False),
    'fine-tuned on wrong attempts paired with right ones at the same problem'),
  'pair_sft_plus': Method(
    'Pair-SFT, D+', 'supervised', _pair_sft(both_right=True),
    'the same, and right attempts paired with right ones'),
  'single_turn': Method(
    'Single-turn RL', 'reinforced',
    _rl(lambda beta1, turns: ablations.single_turn(beta1)),
    'w/o multi-turn training: RL on the first attempt alone'),
  'multi_turn_fig5': Method(
    'Multi-turn, turn 2', 'reinforced',
    _rl(functools.partial(ablations.multi_turn, only_last=True)),
    'RL on the second attempt given the first, as in Figure 5'),
  'multi_turn': Method(
    'Multi-turn RL', 'reinforced', _rl(ablations.multi_turn),
    'RL on both attempts, no stages, no bonus (Eq. 1)'),
  # GRPO also divides an attempt's loss by its length. Here all methods sum over
  # tokens, so that nothing but the advantages differs.
  'grpo': Method(
    'Multi-turn GRPO', 'reinforced',
    _rl(ablations.multi_turn, advantages=advantages.group_normalized),
    'the same with group-normalised advantages, each turn with its own reward; '
    'every update is on-policy, where a clipped ratio is 1 and clips nothing'),
  'score': Method(
    'SCoRe', 'score', _score,
    'Stage I, then Stage II with the bonus'),
  'without_stage1': Method(
    'w/o Stage I', 'ablation', _without_stage1,
    "Stage II from the base policy, with both stages' updates"),
  'without_bonus': Method(
    'w/o reward shaping', 'ablation', _with(_score, alpha=0.0),
    'alpha = 0, the same Stage I'),
  'star_stage2': Method(
    'STaR in Stage II', 'ablation', _star_stage2,
    'rounds of STaR from the Stage I policy, instead of RL'),
  'offline_first_attempts': Method(
    'w/o online turn 1', 'ablation', _with(_score, given_attempts_share=1.0),
    'every first attempt of Stage II is given: the base policy wrote it'),
  'discount_08': Method(
    'Discount 0.8', 'ablation', _with(_without_stage1, discount=0.8, alpha=1.0),
    'multi-turn RL with gamma = 0.8 and alpha = 1, no Stage I (appendix A.2): '
    'turn 1 is paid for turn 2'),
  'adaptive_beta2': Method(
    'Adaptive beta2', 'ablation', _with(_score, adaptive_beta2=True),
    "Stage I's beta2 balances KL and objective"),
  'interleaved': Method(
    'Interleaved', 'ablation', _interleaved,
    'Stage I, II, I, II, half as long each'),
  # SCoRe as others' code has it. Taken over are its Eq. 3 and 4; not PPO, whose
  # clipping does nothing on-policy, its critic, or its KL in the reward (--kl).
  # github.com/1171-jpg/Policy-As-GenVerifier: quick_start/qwen1p5b_SCoRe.sh.
  'pag_baseline': Method(
    "PAG's SCoRe", 'others', _with(_rewarded_throughout, alpha=1.0, beta1=0.0),
    'the baseline of PAG (arXiv:2506.10406): Stage I rewards turn 1 too, and '
    'has no KL but beta2; Stage II has no KL and alpha = 1'),
  # github.com/jeonghun3572/CoCoS: baselines/score. Turn 1's KL is taken off the
  # reward of turn 2, whose context it depends on: its expected gradient is 0.
  'cocos_baseline': Method(
    "CoCoS's SCoRe", 'others',
    _rl(functools.partial(ablations.multi_turn, only_last=True)),
    'the baseline of CoCoS (arXiv:2505.23060): one stage, RL on the second '
    'attempt, no bonus: the objective of multi_turn_fig5'),
}  # fmt: skip


def print_methods(console: rich_console.Console) -> None:
  """Prints name, title and description of each method."""
  table = rich_table.Table(box=box.HORIZONTALS)
  for heading in ('--method', 'in tables', 'what it is'):
    table.add_column(heading)
  kind = None
  for name, method in METHODS.items():
    if kind not in (None, method.kind):
      table.add_section()
    kind = method.kind
    table.add_row(name, method.title, method.description)
  console.print(table)


if __name__ == '__main__':
  print_methods(rich_console.Console())
