"""The compiled programs that learn, for a layout.

Asked for again with equal arguments, they are the same objects: jit compiles
once for each function object, so that Stage II runs what Stage I compiled.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import optax

from score_jax.training import layout as layout_lib
from score_jax.training import (
  optimizers,
  rl_update,
  sft_update,
  teacher_forcing,
  train_state,
)

# So few layers compile quickly as a loop in Python, which runs faster on a CPU;
# more of them are scanned.
UNROLLED_LAYERS = 4
_WARMUP = 100


@dataclasses.dataclass(frozen=True)
class RLUpdate:
  """The programs of reinforcement learning, the same for all stages.

  Attributes:
    optimizer: of `training.optimizers`.
    step: of `rl_update.make_train_step`.
    reference_logprobs: of `teacher_forcing.make_reference_logprobs`.
  """

  optimizer: optax.GradientTransformation
  step: Callable[..., Any]
  reference_logprobs: Callable[..., Any]


@functools.cache
def make_rl_update(
  layout: layout_lib.Layout,
  *,
  learning_rate: float,
  max_grad_norm: float | None = 1.0,
  **options: Any,
) -> RLUpdate:
  """The programs of a stage of reinforcement learning.

  Args:
    layout: of the model on its devices.
    learning_rate: Adam's, constant.
    max_grad_norm: gradients are clipped to this global norm.
    **options: of `rl_update.UpdateOptions`; dtype and unroll are the layout's.
  """
  optimizer = optimizers.make_optimizer(
    learning_rate, max_grad_norm=max_grad_norm
  )
  forward = {'dtype': layout.dtype, 'unroll': _unrolls(layout)}
  step = rl_update.make_train_step(
    layout.config,
    optimizer,
    shardings=_state_shardings(optimizer, layout),
    **forward,
    **options,
  )
  reference_logprobs = teacher_forcing.make_reference_logprobs(
    layout.config, temperature=options.get('temperature', 1.0), **forward
  )
  return RLUpdate(optimizer, step, reference_logprobs)


@functools.cache
def make_sft_update(
  layout: layout_lib.Layout,
  *,
  learning_rate: float,
  max_grad_norm: float | None = 1.0,
  cosine_steps: int | None = None,
  **options: Any,
) -> tuple[optax.GradientTransformation, Callable[..., Any]]:
  """Optimizer and update of supervised learning.

  Args:
    layout: of the model on its devices.
    learning_rate: Adam's largest.
    max_grad_norm: gradients are clipped to this global norm.
    cosine_steps: updates over which the learning rate is warmed up and falls
      to a 20th along a cosine; None: it is constant.
    **options: of `sft_update.make_supervised_step`, dtype the layout's by
      default.
  """
  schedule: optax.ScalarOrSchedule = learning_rate
  if cosine_steps is not None:
    schedule = optax.warmup_cosine_decay_schedule(
      0.0,
      learning_rate,
      min(_WARMUP, cosine_steps // 2),
      max(cosine_steps, 1),
      learning_rate / 20,
    )
  optimizer = optimizers.make_optimizer(schedule, max_grad_norm=max_grad_norm)
  step = sft_update.make_supervised_step(
    layout.config,
    optimizer,
    shardings=_state_shardings(optimizer, layout),
    **{'dtype': layout.dtype, 'unroll': _unrolls(layout), **options},
  )
  return optimizer, step


def _unrolls(layout: layout_lib.Layout) -> bool:
  return layout.config.num_layers <= UNROLLED_LAYERS


def _state_shardings(optimizer, layout: layout_lib.Layout):
  return train_state.state_shardings(
    optimizer, layout.trained_shapes, layout.trained
  )
