"""What a run does beside its steps: evaluations and checkpoints, from settings.

Evaluations are episodes, greedy and one of a problem, and take what episodes of
that size take. Checkpoints are written beside training; what must be known is
whether the disk or bucket keeps up with it.
"""

import dataclasses

from experiments import methods
from experiments.config import schema

# Episodes that an evaluation decodes at a time (`evaluate.evaluate`).
EVALUATED_TOGETHER = 256


@dataclasses.dataclass(frozen=True)
class BesideSteps:
  """Counts of a whole run.

  Attributes:
    evaluation_batches: batches of `EVALUATED_TOGETHER` episodes.
    steps_between: steps from one checkpoint to the next.
  """

  evaluation_batches: int
  steps_between: int


def count(settings: schema.Settings) -> BesideSteps:
  """Counts of a run that is made from beginning to end.

  Each policy, the base policy too, is evaluated on test problems, and the one
  that trains on all validation problems every --eval-every steps.
  """
  stages = methods.stages(settings).values()
  every = settings.eval_every
  measured = sum(s.steps // every for s in stages) if every else 0
  batches = (1 + len(stages)) * _batches(settings.eval_problems)
  batches += measured * _batches(settings.validation_problems)
  return BesideSteps(
    evaluation_batches=batches,
    steps_between=settings.checkpoint_every,
  )


def _batches(problems: int) -> int:
  return -(-problems // EVALUATED_TOGETHER)
