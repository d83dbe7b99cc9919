"""How often a stage is logged, shown, evaluated and saved."""

import dataclasses

from experiments.config import schema


@dataclasses.dataclass(frozen=True)
class Intervals:
  """Number of steps between two actions of the recorder; 0: never.

  Attributes:
    log: metrics are read from the device and written.
    show: a line is printed, where there is no terminal.
    checkpoint: the state is saved; a stage's last one always is.
    evaluate: the policy is evaluated on validation problems.
    samples: episodes are printed and written.
  """

  checkpoint: int
  log: int = 1
  show: int = 1
  evaluate: int = 0
  samples: int = 0

  @classmethod
  def of(cls, settings: schema.Settings) -> 'Intervals':
    """The intervals that the settings ask for."""
    return cls(
      checkpoint=settings.checkpoint_every,
      evaluate=settings.eval_every,
      samples=settings.log_samples_every,
    )
