"""Adam, as in the paper, its learning rate, and updates that may be skipped."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import optax

Schedule = Literal['constant', 'linear', 'cosine']


# The same object for equal arguments: what is compiled for it is compiled once.
@functools.cache
def make_optimizer(
  learning_rate: float | optax.Schedule,
  *,
  max_grad_norm: float | None = 1.0,
  b1: float = 0.9,
  b2: float = 0.999,
  epsilon: float = 1e-8,
  weight_decay: float = 0.0,
) -> optax.GradientTransformation:
  """Adam (Table 8 of the paper) with clipping by the global norm.

  Args:
    learning_rate: per update, or a schedule of the update's index.
    max_grad_norm: gradients are scaled down to this global norm; None: never.
    b1: decay of the gradients' running mean, in [0, 1).
    b2: decay of their squares' running mean, in [0, 1).
    epsilon: added to the root of that mean.
    weight_decay: share of the parameters, times the learning rate, that an
      update takes off them, whatever the gradient (AdamW; Loshchilov and
      Hutter, 2019).

  Example:
    >>> optimizer = sj.make_optimizer(1e-5)
    >>> opt_state = optimizer.init(params)
  """
  steps = []
  if max_grad_norm is not None:
    steps.append(optax.clip_by_global_norm(max_grad_norm))
  # Not `optax.adam`, whose state is another tree: checkpoints have adamw's.
  steps.append(
    optax.adamw(
      learning_rate, b1=b1, b2=b2, eps=epsilon, weight_decay=weight_decay
    )
  )
  return optax.chain(*steps)


@functools.cache
def make_schedule(
  learning_rate: float,
  kind: Schedule = 'constant',
  *,
  warmup: int = 0,
  updates: int = 0,
  last_share: float = 0.0,
) -> float | optax.Schedule:
  """The learning rate of a stage: a warm-up, then constant or falling.

  An update that is skipped is not counted. Without warm-up the constant one is
  a number, and the optimizer's state has no counter for it.

  Args:
    learning_rate: the largest.
    kind: what follows the warm-up: `constant`, or down along a `linear` or
      `cosine` curve.
    warmup: updates over which it rises linearly from 0.
    updates: those of the stage, warm-up included; read where it falls.
    last_share: share of the largest that it falls to.
  """
  if kind == 'constant' and not warmup:
    return learning_rate
  # A stage of no updates has an optimizer, too.
  rest = max(1, updates - warmup)
  match kind:
    case 'constant':
      after = optax.constant_schedule(learning_rate)
    case 'linear':
      last = last_share * learning_rate
      after = optax.linear_schedule(learning_rate, last, rest)
    case 'cosine':
      after = optax.cosine_decay_schedule(learning_rate, rest, last_share)
  rising = optax.linear_schedule(0.0, learning_rate, warmup)
  return optax.join_schedules([rising, after], [warmup])


def apply_if_finite(optimizer, loss, gradients, state):
  """Updates params and optimizer state if loss and gradients are finite.

  Args:
    optimizer: an optax transformation.
    loss: f32 [].
    gradients: like the parameters.
    state: `arrays.TrainState`.

  Returns:
    The next state, with `skipped` counting the updates skipped in a row, and
    the gradients' global norm, f32 [].
  """
  norm = optax.tree.norm(gradients)
  finite = jnp.isfinite(loss) & jnp.isfinite(norm)
  updates, opt_state = optimizer.update(
    gradients, state.opt_state, state.params
  )
  params = optax.apply_updates(state.params, updates)

  # The moments too: one non-finite gradient in them would stay for good.
  def keep(new, old):
    return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)

  state = state.replace(
    step=state.step + 1,
    params=keep(params, state.params),
    opt_state=keep(opt_state, state.opt_state),
    skipped=jnp.where(finite, 0, state.skipped + 1),
  )
  return state, norm
