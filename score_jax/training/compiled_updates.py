"""The compiled programs that learn, made from settings.

Asked again, they are the same ones: jit compiles once for each function object,
so that Stage II runs the program that Stage I compiled.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import optax

from experiments.config import schema
from score_jax.training import (
  layout,
  optimizers,
  rl_update,
  sft_update,
  teacher_forcing,
  train_state,
)

# So few layers compile quickly as a loop in Python, which runs faster on a CPU;
# more of them are scanned.
UNROLLED_LAYERS = 4
# Where attempts may be so long, that many end early is worth compiling for.
_LONG_ATTEMPTS, _LENGTH_BUCKETS = 512, 2


@dataclasses.dataclass(frozen=True)
class Update:
  """The programs of reinforcement learning, the same for all stages.

  Attributes:
    optimizer: of `training.optimizers`.
    train_step: of `training.rl_update.make_train_step`.
    reference_logprobs: of `training.teacher_forcing.make_reference_logprobs`.
  """

  optimizer: optax.GradientTransformation
  train_step: Callable[..., Any]
  reference_logprobs: Callable[..., Any]


def make_update(settings: schema.Settings, places: layout.Layout) -> Update:
  """The programs of a stage of reinforcement learning."""
  return _make_update(
    places,
    learning_rate=settings.learning_rate,
    max_grad_norm=settings.max_grad_norm,
    kl=settings.kl,
    temperature=settings.temperature,
    length_buckets=length_buckets(settings),
    **_common(settings),
  )


def length_buckets(settings: schema.Settings) -> int:
  """How many lengths an update is compiled for."""
  is_long = settings.attempt_tokens >= _LONG_ATTEMPTS
  return settings.length_buckets or (_LENGTH_BUCKETS if is_long else 1)


def make_supervised_update(
  settings: schema.Settings, places: layout.Layout
) -> tuple[optax.GradientTransformation, Callable[..., Any]]:
  """Optimizer and update of the supervised baselines."""
  return _make_supervised_update(
    places,
    learning_rate=settings.sft.learning_rate or settings.learning_rate,
    max_grad_norm=settings.max_grad_norm,
    **_common(settings),
  )


def _common(settings: schema.Settings) -> dict[str, Any]:
  return {
    'attempt_tokens': settings.attempt_tokens,
    'micro_batches': settings.batch_size // settings.micro_batch_size,
    'remat': settings.remat,
  }


@functools.cache
def _make_update(places, *, learning_rate, max_grad_norm, remat, **options):
  optimizer = optimizers.make_optimizer(
    learning_rate, max_grad_norm=max_grad_norm
  )
  forward = {
    'dtype': places.dtype,
    'unroll': places.config.num_layers <= UNROLLED_LAYERS,
  }
  train_step = rl_update.make_train_step(
    places.config,
    optimizer,
    shardings=_shardings(optimizer, places),
    remat=remat,
    **forward,
    **options,
  )
  reference_logprobs = teacher_forcing.make_reference_logprobs(
    places.config, temperature=options['temperature'], **forward
  )
  return Update(optimizer, train_step, reference_logprobs)


@functools.cache
def _make_supervised_update(places, *, learning_rate, max_grad_norm, **options):
  optimizer = optimizers.make_optimizer(
    learning_rate, max_grad_norm=max_grad_norm
  )
  update = sft_update.make_supervised_step(
    places.config,
    optimizer,
    shardings=_shardings(optimizer, places),
    dtype=places.dtype,
    unroll=places.config.num_layers <= UNROLLED_LAYERS,
    **options,
  )
  return optimizer, update


def _shardings(optimizer, places):
  return train_state.state_shardings(
    optimizer, places.trained_shapes, places.trained
  )
