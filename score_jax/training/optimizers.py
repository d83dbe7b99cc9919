"""Adam, as in the paper, and updates that skip what is not finite."""

import jax
import jax.numpy as jnp
import optax


def make_optimizer(
  learning_rate: optax.ScalarOrSchedule,
  *,
  max_grad_norm: float | None = 1.0,
) -> optax.GradientTransformation:
  """Adam (Table 8 of the paper) with clipping by the global norm.

  Args:
    learning_rate: per update, or a schedule of the update's index.
    max_grad_norm: gradients are scaled down to this global norm; None: never.

  Example:
    >>> optimizer = sj.make_optimizer(1e-5)
    >>> opt_state = optimizer.init(params)
  """
  steps = []
  if max_grad_norm is not None:
    steps.append(optax.clip_by_global_norm(max_grad_norm))
  # Not `optax.adam`, whose state is another tree: checkpoints have adamw's.
  steps.append(optax.adamw(learning_rate, weight_decay=0.0))
  return optax.chain(*steps)


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
