"""The stages that settings train, in numbers: what a method makes of them.

A method may replace settings (`without_bonus` has alpha = 0) or use none of
them (multi-turn RL has no alpha): its stages tell what is maximised.
"""

from collections.abc import Iterable

from experiments import methods
from experiments.config import schema

HEADINGS = (
  'Stage',
  'Updates',
  'From',
  'Reference',
  'Reward',
  'Bonus',
  'Discount',
  'KL',
)
NOTE = 'Reward, bonus (alpha) and KL: their coefficients, turn by turn.'


def rows(settings: schema.Settings) -> list[tuple[str, ...]]:
  """Texts under `HEADINGS`, a row for each stage."""
  return [
    (name, str(stage.steps), stage.start, *_objective(stage))
    for name, stage in methods.stages(settings).items()
  ]


def _objective(stage: methods.Stage) -> tuple[str, ...]:
  match stage:
    case methods.RLStage():
      one = stage.coefficients
      *earlier, last = _texts(one.kl_coefficient)
      if stage.is_adaptive:
        earlier = [f'{beta1} + beta2' for beta1 in earlier]
      return (
        stage.reference,
        ', '.join(_texts(one.reward_weight)),
        ', '.join(_texts(one.progress_bonus)),
        f'{float(one.discount):g}',
        ', '.join([*earlier, last]),
      )
    case methods.SFTStage():
      pairs = 'repairs, right pairs' if stage.both_right else 'repairs'
      return ('-', f'{pairs} of {stage.source}', '-', '-', '-')
    case methods.PromptStage():
      return ('-',) * 5


def _texts(coefficients: Iterable[float]) -> list[str]:
  return [f'{float(x):g}' for x in coefficients]
