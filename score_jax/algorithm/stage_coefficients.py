"""SCoRe's two stages as values of one record of coefficients (Eq. 3, Eq. 4).

Equation numbers are those of Kumar et al., ICLR 2025 (arXiv:2409.12917). K is
the number of attempts in an episode. Coefficients enter the compiled update as
traced arrays, so that another stage with the same K recompiles nothing.
`ablations` has the paper's baselines.
"""

from collections.abc import Sequence
import dataclasses
import string

import jax
import numpy as np


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
  """Coefficients of one objective, entry k - 1 for turn k.

  Attributes:
    reward_weight: f32 [K], weight of the attempt's own score.
    progress_bonus: f32 [K], alpha: weight of the score's gain over the attempt
      before. Turn 1 has none before it; its entry is not read.
    kl_coefficient: f32 [K], per nat of KL(policy || reference).
    advantage_scale: f32 [K], multiplies the turn's advantages.
    discount: f32 [], gamma: share of the next turn's return that a turn is
      credited with; 0 in the paper's method.
  """

  reward_weight: jax.Array | np.ndarray
  progress_bonus: jax.Array | np.ndarray
  kl_coefficient: jax.Array | np.ndarray
  advantage_scale: jax.Array | np.ndarray
  discount: jax.Array | np.ndarray

  @property
  def turns(self) -> int:
    """K, static under jit."""
    return self.reward_weight.shape[0]


def make_stage(
  reward_weight: Sequence[float],
  progress_bonus: Sequence[float],
  kl_coefficient: Sequence[float],
  *,
  normalize_bonus: bool = False,
  discount: float = 0.0,
) -> Stage:
  """Makes the record, f32 on the host, from one coefficient a turn.

  `normalize_bonus` divides a turn's advantages by 1 + its bonus. Impossible
  coefficients and lists of different lengths are a ValueError.
  """
  rows = {
    'reward_weight': reward_weight,
    'progress_bonus': progress_bonus,
    'kl_coefficient': kl_coefficient,
  }
  for name, row in rows.items():
    if len(row) != len(reward_weight) or not all(0 <= x < np.inf for x in row):
      raise ValueError(
        f'{name} is {list(row)}: it takes one finite number of at least 0 for '
        f'each of {len(reward_weight)} turns (check alpha, beta1, beta2)'
      )
  if not 0 <= discount <= 1:
    raise ValueError(f'discount is {discount}: it must lie between 0 and 1')
  arrays = {name: np.asarray(row, np.float32) for name, row in rows.items()}
  scale = 1 / (1 + normalize_bonus * arrays['progress_bonus'])
  return Stage(
    **arrays,
    advantage_scale=scale.astype(np.float32),
    discount=np.asarray(discount, np.float32),
  )


def require_turns(turns: int, at_least: int) -> None:
  """Raises ValueError where a stage is asked for too few turns."""
  if turns < at_least:
    raise ValueError(f'turns is {turns}: this stage needs at least {at_least}')


def stage_one(beta1: float = 0.01, beta2: float = 0.1, turns: int = 2) -> Stage:
  """Stage I, Eq. 3: reward the last attempt, anchor those before it.

  r(y_K) - beta1 * KL on every turn - beta2 * KL on every turn but the last.
  The default KL of Eq. 2 (beta1) comes on top of beta2, which the paper leaves
  out of Eq. 3 'for clarity'. With three turns this is Stage 1(b). Coefficients
  are f32 [K], K = `turns`.

  Example:
    >>> sj.stage_one().kl_coefficient
    array([0.11, 0.01], dtype=float32)
  """
  require_turns(turns, 2)
  return make_stage(
    reward_weight=[0.0] * (turns - 1) + [1.0],
    progress_bonus=[0.0] * turns,
    kl_coefficient=[beta1 + beta2] * (turns - 1) + [beta1],
  )


def stage_two(
  alpha: float = 10.0,
  beta1: float = 0.01,
  turns: int = 2,
  *,
  normalize_bonus: bool = False,
  discount: float = 0.0,
) -> Stage:
  """Stage II, Eq. 4 with the progress bonus alpha * (r(y_k) - r(y_k-1)).

  Coefficients are f32 [K], K = `turns`.

  Args:
    alpha: weight of the bonus, on every turn but the first.
    beta1, turns: KL coefficient of every turn; K.
    normalize_bonus: divides a turn's advantages by 1 + its alpha, which brings
      both turns to one scale; global-norm clipping then does not starve turn 1.
      It also takes the bonus out of the objective. With discount 0 its part
      -alpha * r(y_k-1) depends on nothing but turn k's context, so that its
      expected policy gradient is 0 and the bonus multiplies turn k's expected
      gradient by 1 + alpha. Divided by that again, alpha = 10, alpha = 0 and
      multi-turn RL (`ablations.multi_turn`) have one expected gradient, and
      differ in its variance alone.
    discount: gamma; above 0 a wrong first attempt pays through the bonus that
      it makes possible (the paper's ablation, not its method).

  Example:
    >>> stage = sj.stage_two(alpha=10.0)
    >>> stage.reward_weight, stage.progress_bonus
    (array([1., 1.], dtype=float32), array([ 0., 10.], dtype=float32))
  """
  require_turns(turns, 2)
  return make_stage(
    reward_weight=[1.0] * turns,
    progress_bonus=[0.0] + [alpha] * (turns - 1),
    kl_coefficient=[beta1] * turns,
    normalize_bonus=normalize_bonus,
    discount=discount,
  )


def score_stages(
  turns: int = 2,
  *,
  alpha: float = 10.0,
  beta1: float = 0.01,
  beta2: float = 0.1,
  normalize_bonus: bool = False,
  discount: float = 0.0,
) -> dict[str, Stage]:
  """The stages of a whole SCoRe run, by name, in their order.

  Two turns: stage1, stage2. Three turns (appendix A.1): stage1a, whose episodes
  have two turns; stage1b, whose reference is the policy of stage1a; stage2. In
  general the Stage I that rewards turn k has episodes of k turns. Only Stage II
  has the discount: in Stage I it would reward the attempts that are anchored.

  Example:
    >>> list(sj.score_stages(turns=3))
    ['stage1a', 'stage1b', 'stage2']
  """
  require_turns(turns, 2)
  letters = string.ascii_lowercase[: turns - 1] if turns > 2 else ['']
  first = {
    f'stage1{letter}': stage_one(beta1, beta2, rewarded)
    for rewarded, letter in enumerate(letters, start=2)
  }
  last = stage_two(
    alpha, beta1, turns, normalize_bonus=normalize_bonus, discount=discount
  )
  return first | {'stage2': last}
