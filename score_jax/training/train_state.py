"""The state that a stage trains: how it begins and how it is sharded."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from score_jax import arrays
from score_jax.training import sharding


def init_state(
  params: Any, optimizer: optax.GradientTransformation, beta2: float = 0.0
) -> arrays.TrainState:
  """The state at the start of a stage.

  It owns a float32 copy of the parameters, since updates donate the state's
  buffers and the reference policy may share them. Its shardings are those that
  an update returns (moments as their parameters, scalars on every device): with
  others, jit would compile the second update again.

  Args:
    params: what is trained: all weights, or adapters.
    optimizer: see `training.optimizers`.
    beta2: initial value of the first-attempt KL coefficient, where it adapts.

  Returns:
    The state at step 0: parameters and moments f32, counters i32 [].

  Example:
    >>> state = sj.init_state(params, sj.make_optimizer(1e-5))
    >>> int(state.step)
    0
  """
  make = functools.partial(_new_state, optimizer=optimizer, beta2=beta2)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, params)
  if isinstance(jax.tree.leaves(shardings)[0], jax.sharding.NamedSharding):
    shardings = sharding.state_shardings(
      jax.eval_shape(make, params), shardings
    )
    state = jax.jit(make, out_shardings=shardings)(params)
  else:
    # Scalars are made on the default device, which need not be the params'.
    device = jax.tree.leaves(shardings)[0]
    state = jax.tree.map(
      lambda x: jax.device_put(x, x.sharding if x.ndim else device),
      make(params),
    )
  # astype and jit may pass float32 buffers through: copied, so that donation
  # cannot delete the caller's.
  return state.replace(params=jax.tree.map(jnp.copy, state.params))


def state_shardings(
  optimizer: optax.GradientTransformation, shapes: Any, shardings: Any
) -> arrays.TrainState:
  """Shardings of the state of parameters with these shapes and shardings."""
  make = functools.partial(_new_state, optimizer=optimizer, beta2=0.0)
  return sharding.state_shardings(jax.eval_shape(make, shapes), shardings)


def _new_state(params, optimizer, beta2):
  params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
  return arrays.TrainState(
    step=jnp.int32(0),
    params=params,
    opt_state=optimizer.init(params),
    beta2=jnp.float32(beta2),
    skipped=jnp.int32(0),
  )
