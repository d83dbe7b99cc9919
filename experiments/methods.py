"""Every method of the paper as a table: what it trains, in which order.

A method is a few phases, a phase is what makes one policy out of others. An
ablation differs from SCoRe by a number of its phases, never by a branch of a
loop. All methods have one budget of episodes and updates: SCoRe's.

`python -m experiments.methods` prints the table.
"""

from collections.abc import Callable
import dataclasses
from typing import Literal

import numpy as np
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
_LABELS = {BASE: 'Base', 'stage1': 'Stage I', 'stage2': 'Stage II'}


@dataclasses.dataclass(frozen=True, eq=False)
class RLStage:
  """A policy made by reinforcement learning.

  Attributes:
    coefficients: of its objective, for K turns.
    steps: updates, each on N * G new episodes.
    start: the policy that it starts from: the base's or an earlier phase's.
    reference: the policy that the KL holds it to.
    advantages: of `algorithm.advantages`.
    given_share: share of each problem's episodes whose first attempt is given,
      from a pool of the reference's.
    is_adaptive: beta2 is added to the stage at every step, as measured.
  """

  coefficients: stage_coefficients.Stage
  steps: int
  start: str = BASE
  reference: str = BASE
  advantages: Callable = advantages.leave_one_out
  given_share: float = 0.0
  is_adaptive: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class SFTStage:
  """A policy made by imitation of repairs that another one happened to make.

  Attributes:
    construct: of `algorithm.repair_pairs`.
    both_right: pairs of two right attempts, too.
    steps: batches of N * G episodes that are sampled, and most updates.
    start: the policy that is fine-tuned.
    source: the policy that is sampled from.
    first_batch: number of the first batch; another round sees other problems.
  """

  construct: repair_pairs.Construction
  both_right: bool
  steps: int
  start: str = BASE
  source: str = BASE
  first_batch: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class PromptStage:
  """A policy that is only told something else between its attempts."""

  start: str = BASE
  steps: int = 0


Stage = RLStage | SFTStage | PromptStage
Stages = dict[str, Stage]


@dataclasses.dataclass(frozen=True)
class Method:
  """A row of the paper's tables.

  Attributes:
    title: what tables call it.
    kind: which methods it stands with.
    description: one line.
    stages: what it trains with given settings, by name, in order.
  """

  title: str
  kind: Literal['prompting', 'supervised', 'reinforced', 'score', 'ablation']
  description: str
  stages: Callable[[schema.Settings], Stages]


def stages(settings: schema.Settings) -> Stages:
  """What these settings train, by name, in order; the base policy not."""
  return METHODS[settings.method].stages(settings)


def policy_label(settings: schema.Settings, name: str) -> str:
  """A policy's name in tables; the last one's has the method's title."""
  label = _LABELS.get(name, name)
  if name not in list(stages(settings))[-1:]:
    return label
  title = METHODS[settings.method].title
  return title if name == settings.method else f'{label} ({title})'


def budget(settings: schema.Settings) -> int:
  """Updates of a whole method: those of SCoRe's stages together."""
  stages_one = max(1, settings.turns - 1)
  return stages_one * settings.steps_stage1 + settings.steps_stage2


def needed_later(table: Stages, name: str) -> set[str]:
  """Policies that the phases after this one read."""
  names = list(table)
  later = [table[n] for n in names[names.index(name) + 1 :]]
  return {
    policy
    for phase in later
    for field in ('start', 'reference', 'source')
    if (policy := getattr(phase, field, None))
  }


def _score(settings: schema.Settings) -> Stages:
  """Stage I (of every turn but the first), then Stage II."""
  table = stage_coefficients.score_stages(
    settings.turns,
    alpha=settings.alpha,
    beta1=settings.beta1,
    # An adaptive beta2 is added to each step's stage.
    beta2=0.0 if settings.adaptive_beta2 else settings.beta2,
    normalize_bonus=settings.normalize_bonus,
  )
  made: Stages = {}
  before = BASE
  for name, stage in table.items():
    stage = dataclasses.replace(stage, discount=np.float32(settings.discount))
    if name == 'stage2':
      made[name] = RLStage(
        stage,
        settings.steps_stage2,
        start=before,
        given_share=settings.given_attempts_share,
      )
    else:
      # Every Stage I is held to the policy that it starts from.
      made[name] = RLStage(
        stage,
        settings.steps_stage1,
        start=before,
        reference=before,
        is_adaptive=settings.adaptive_beta2,
      )
    before = name
  return made


def _score_with(**changes) -> Callable[[schema.Settings], Stages]:
  """SCoRe with other settings."""
  return lambda settings: _score(dataclasses.replace(settings, **changes))


def _without_stage1(settings: schema.Settings) -> Stages:
  """Stage II with the whole budget, from the base policy."""
  stage = _score(settings)['stage2']
  return {
    'stage2': dataclasses.replace(stage, start=BASE, steps=budget(settings))
  }


def _interleaved(settings: schema.Settings) -> Stages:
  """Both stages twice, each with half of its steps."""
  first = dataclasses.replace(
    settings,
    steps_stage1=settings.steps_stage1 // 2,
    steps_stage2=settings.steps_stage2 // 2,
  )
  second = dataclasses.replace(
    settings,
    steps_stage1=settings.steps_stage1 - first.steps_stage1,
    steps_stage2=settings.steps_stage2 - first.steps_stage2,
  )
  made: Stages = {}
  before = BASE
  for number, half in enumerate((first, second), start=1):
    for name, phase in _score(half).items():
      reference = BASE if name == 'stage2' else before
      made[f'{name}_{number}'] = dataclasses.replace(
        phase, start=before, reference=reference
      )
      before = f'{name}_{number}'
  return made


def _reinforced(
  make_stage: Callable[[schema.Settings], stage_coefficients.Stage], **fields
) -> Callable[[schema.Settings], Stages]:
  """One phase of RL from the base policy, named after the method."""

  def make(settings):
    phase = RLStage(make_stage(settings), budget(settings), **fields)
    return {settings.method: phase}

  return make


def _multi_turn(settings: schema.Settings) -> stage_coefficients.Stage:
  return ablations.multi_turn(settings.beta1, settings.turns)


def _rounds(
  settings: schema.Settings,
  steps: int,
  *,
  start: str = BASE,
  both_right: bool = False,
) -> Stages:
  """STaR: rounds of sampling with the newest policy and fine-tuning."""
  count = settings.sft.rounds
  made: Stages = {}
  source, first = start, 0
  for number in range(1, count + 1):
    share = steps * number // count - first
    made[f'round{number}'] = SFTStage(
      repair_pairs.star,
      both_right,
      share,
      start=source if settings.sft.from_newest else start,
      source=source,
      first_batch=first,
    )
    source, first = f'round{number}', first + share
  return made


def _star(both_right: bool) -> Callable[[schema.Settings], Stages]:
  return lambda settings: _rounds(
    settings, budget(settings), both_right=both_right
  )


def _star_stage2(settings: schema.Settings) -> Stages:
  first = _score(settings)
  del first['stage2']
  return first | _rounds(settings, settings.steps_stage2, start=list(first)[-1])


def _pair_sft(both_right: bool) -> Callable[[schema.Settings], Stages]:
  def make(settings):
    phase = SFTStage(repair_pairs.pair_sft, both_right, budget(settings))
    return {settings.method: phase}

  return make


METHODS: dict[str, Method] = {
  'base': Method(
    'Base', 'prompting', 'nothing is trained', lambda settings: {}
  ),
  'self_refine': Method(
    'Self-Refine',
    'prompting',
    'the base policy, asked for feedback and a better attempt',
    lambda settings: {'self_refine': PromptStage()},
  ),
  'star': Method(
    'STaR, D',
    'supervised',
    'fine-tuned on its own repairs within an episode, three rounds',
    _star(both_right=False),
  ),
  'star_plus': Method(
    'STaR, D+',
    'supervised',
    'the same, and episodes with two right attempts',
    _star(both_right=True),
  ),
  'pair_sft': Method(
    'Pair-SFT, D',
    'supervised',
    'fine-tuned on wrong attempts paired with right ones at the same problem',
    _pair_sft(both_right=False),
  ),
  'pair_sft_plus': Method(
    'Pair-SFT, D+',
    'supervised',
    'the same, and right attempts paired with right ones',
    _pair_sft(both_right=True),
  ),
  'single_turn': Method(
    'Single-turn RL',
    'reinforced',
    'w/o multi-turn training: RL on the first attempt alone',
    _reinforced(lambda s: ablations.single_turn(s.beta1)),
  ),
  'multi_turn_fig5': Method(
    'Multi-turn, turn 2',
    'reinforced',
    'RL on the second attempt given the first, as in Figure 5',
    _reinforced(
      lambda s: ablations.multi_turn(s.beta1, s.turns, only_last=True)
    ),
  ),
  'multi_turn': Method(
    'Multi-turn RL',
    'reinforced',
    'RL on both attempts, no stages, no bonus (Eq. 1)',
    _reinforced(_multi_turn),
  ),
  # GRPO also divides an attempt's loss by its length. Here all methods sum over
  # tokens, so that nothing but the advantages differs.
  'grpo': Method(
    'Multi-turn GRPO',
    'reinforced',
    'the same with group-normalised advantages, each turn with its own reward; '
    'every update is on-policy, where a clipped ratio is 1 and clips nothing',
    _reinforced(_multi_turn, advantages=advantages.group_normalized),
  ),
  'score': Method(
    'SCoRe', 'score', 'Stage I, then Stage II with the bonus', _score
  ),
  'without_stage1': Method(
    'w/o Stage I',
    'ablation',
    "Stage II from the base policy, with both stages' updates",
    _without_stage1,
  ),
  'without_bonus': Method(
    'w/o reward shaping',
    'ablation',
    'alpha = 0, the same Stage I',
    _score_with(alpha=0.0),
  ),
  'star_stage2': Method(
    'STaR in Stage II',
    'ablation',
    'rounds of STaR from the Stage I policy, instead of RL',
    _star_stage2,
  ),
  'offline_first_attempts': Method(
    'w/o online turn 1',
    'ablation',
    'every first attempt of Stage II is given: the base policy wrote it',
    _score_with(given_attempts_share=1.0),
  ),
  'discount_08': Method(
    'Discount 0.8',
    'ablation',
    'gamma = 0.8 and alpha = 1 (appendix A.2): turn 1 is paid for turn 2',
    _score_with(discount=0.8, alpha=1.0),
  ),
  'adaptive_beta2': Method(
    'Adaptive beta2',
    'ablation',
    "Stage I's beta2 balances KL and objective",
    _score_with(adaptive_beta2=True),
  ),
  'interleaved': Method(
    'Interleaved',
    'ablation',
    'Stage I, II, I, II, half as long each',
    _interleaved,
  ),
}


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
