"""The optimizer of a stage, by reinforcement learning or supervised."""

import optax

from experiments.config import schema
from score_jax.training import optimizers


def make(
  settings: schema.Settings, learning_rate: float, *, warmup: int, updates: int
) -> optax.GradientTransformation:
  """Adam with the settings of --optimizer; the same one for equal values.

  Args:
    settings: the run's.
    learning_rate: the largest.
    warmup: updates of the warm-up.
    updates: those of the stage. A constant learning rate does not depend on
      them, so that stages of any length share what is compiled for it.
  """
  adam = settings.optimizer
  is_constant = adam.schedule == 'constant'
  return optimizers.make_optimizer(
    optimizers.make_schedule(
      learning_rate,
      adam.schedule,
      warmup=warmup,
      updates=0 if is_constant else updates,
    ),
    max_grad_norm=settings.max_grad_norm,
    b1=adam.adam_b1,
    b2=adam.adam_b2,
    epsilon=adam.adam_epsilon,
    weight_decay=adam.weight_decay,
  )
