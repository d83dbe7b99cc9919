"""The paper's baselines and ablations as values of the same record."""

from score_jax.algorithm import stage_coefficients


def single_turn(
  beta1: float = 0.01, turns: int = 1
) -> stage_coefficients.Stage:
  """Single-turn RL, Eq. 2: 'w/o multi-turn training' in Table 4.

  With more than one turn the later attempts carry neither reward nor KL.
  """
  stage_coefficients.require_turns(turns, 1)
  later = [0.0] * (turns - 1)
  return stage_coefficients.make_stage(
    [1.0] + later, [0.0] + later, [beta1] + later
  )


def multi_turn(
  beta1: float = 0.01, turns: int = 2, *, only_last: bool = False
) -> stage_coefficients.Stage:
  """Standard multi-turn RL, Eq. 1: no bonus, and no Stage I before it.

  Args:
    beta1: coefficient of the KL on the turns that are trained.
    turns: K.
    only_last: train on pairs (x_K, y_K) alone, as the baseline of the figure
      that shows the collapse does: earlier turns carry neither reward nor KL.
  """
  stage_coefficients.require_turns(turns, 2)
  trained = [0.0 if only_last else 1.0] * (turns - 1) + [1.0]
  return stage_coefficients.make_stage(
    trained, [0.0] * turns, [beta1 * on for on in trained]
  )


def no_bonus(beta1: float = 0.01, turns: int = 2) -> stage_coefficients.Stage:
  """Stage II with alpha = 0: 'w/o reward shaping' in Table 4."""
  return stage_coefficients.stage_two(alpha=0.0, beta1=beta1, turns=turns)


def discounted(
  alpha: float = 1.0,
  beta1: float = 0.01,
  turns: int = 2,
  *,
  discount: float = 0.8,
) -> stage_coefficients.Stage:
  """The appendix's gamma = 0.8 and alpha = 1, which still collapses."""
  return stage_coefficients.stage_two(alpha, beta1, turns, discount=discount)
