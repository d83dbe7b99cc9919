"""An adaptive beta2 for Stage I: its state is one scalar."""

import dataclasses

import jax
import jax.numpy as jnp

from score_jax.algorithm import stage_coefficients


def with_beta2(
  stage: stage_coefficients.Stage, beta2: jax.Array | float
) -> stage_coefficients.Stage:
  """Adds beta2, possibly traced, to the KL of every turn but the last.

  `with_beta2(stage_one(beta2=0), b)` is `stage_one(beta2=b)`: how an adaptive
  beta2 enters the compiled update.
  """
  earlier = jnp.arange(stage.turns) < stage.turns - 1  # [K]
  return dataclasses.replace(
    stage, kl_coefficient=stage.kl_coefficient + jnp.where(earlier, beta2, 0.0)
  )


def adapt_beta2(
  beta2: jax.Array,
  first_kl: jax.Array,
  objective: jax.Array,
  *,
  initial: float,
  rate: float = 0.05,
  lowest: float = 0.5,
  highest: float = 10.0,
) -> jax.Array:
  """Moves beta2 towards the balance beta2 * first_kl = objective.

  The paper names the aim, to 'balance the magnitudes of the first-attempt KL
  regularization and the second-attempt policy objective', and no schedule.
  Here both sides are in units of reward, and

    log beta2 += rate * clip(log(beta2 * first_kl / objective), -1, 1)

  within bounds: while the first attempt's drift costs more than the second
  attempt's signal is worth, beta2 rises, otherwise it falls. With this sign the
  balance is stable: under a steady push drift settles near KL ~ 1 / beta2^2,
  so that a larger beta2 makes the product smaller. (Setting beta2 to
  objective / first_kl has the same fixed point, but an unstable one.) Drift
  must follow beta2 within about 1 / rate steps, or beta2 oscillates. Before the
  policy drifts, beta2 falls to its lower bound, which anchors the first attempt
  until it does. The bounds follow the initial beta2, since its scale is that of
  the task's rewards and of the attempts' length.

  Args:
    beta2: f32 [], the step's coefficient.
    first_kl: f32 [], mean KL of the first attempts, nats per attempt
      (`kl/turn1`).
    objective: f32 [], magnitude of the policy objective: the mean absolute
      scaled advantage of the last attempt (`advantage_magnitude/turn2`).
    initial: beta2 of the first step, above 0.
    rate: largest change of log beta2 in a step.
    lowest: lower bound, as a multiple of `initial`.
    highest: upper bound, as a multiple of `initial`.

  Returns:
    f32 [], the next step's beta2; unchanged where a measurement is not finite.
  """
  tiny = jnp.finfo(jnp.float32).tiny
  imbalance = jnp.log(jnp.maximum(beta2 * first_kl, tiny)) - jnp.log(
    jnp.maximum(objective, tiny)
  )
  moved = beta2 * jnp.exp(rate * jnp.clip(imbalance, -1, 1))
  bounded = jnp.clip(moved, lowest * initial, highest * initial)
  return jnp.where(jnp.isfinite(imbalance), bounded, beta2).astype(jnp.float32)
