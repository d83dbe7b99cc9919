"""Inference scaling: samples spent on attempts, or on corrections too.

The paper's section 6.2 (Figure 1, right) at temperature 0.7: a vote of 2K
parallel attempts, against K parallel attempts with one correction each. Both
are computed from one set of episodes, 32 of two turns for each problem; smaller
budgets are subsets of them.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from score_jax.evaluation import bootstrap, voting

BUDGETS = (2, 4, 8, 16, 32)
TEMPERATURE = 0.7
VoteSet = Literal['last', 'all']


def inference_scaling(
  keys: Sequence[Sequence[voting.Keys]],
  correct: np.ndarray,
  *,
  budgets: Sequence[int] = BUDGETS,
  vote: VoteSet = 'last',
  draws: int = 50,
  seed: int = 0,
) -> dict[str, Any]:
  """Accuracy of parallel and of corrected attempts at each budget.

  Args:
    keys: answers of N problems, G episodes and two attempts.
    correct: bool [N, G, 2].
    budgets: attempts at a problem, 2K each, at most G.
    vote: attempts of a corrected episode that vote: the second ones alone
      ('last') or both ('all'). The paper does not say. The default is 'last',
      because the second attempt is the policy's answer and the first the one
      that it was told to correct; 'all' has twice the votes, and at K = 1
      always keeps the first attempt.
    draws: random subsets of the episodes for each budget.
    seed: of subsets and intervals.

  Returns:
    `budgets`, and for `parallel`, `corrected` and their difference `gain`
    (corrected - parallel, paired by problem) a list `<name>` of accuracies and
    a list `<name>_ci95` of 95 % intervals, one for each budget.

  Raises:
    ValueError: a budget is odd or exceeds G.
  """
  correct = np.asarray(correct)
  samples = correct.shape[1]
  unusable = [b for b in budgets if b % 2 or not 2 <= b <= samples]
  if unusable:
    raise ValueError(
      f'budgets {unusable} are not even numbers in [2, {samples}], the '
      'episodes drawn for each problem'
    )
  begin = 0 if vote == 'all' else 1
  firsts = [[row[:1] for row in rows] for rows in keys]
  voters = [[row[begin:2] for row in rows] for rows in keys]
  result: dict[str, Any] = {'budgets': list(budgets), 'vote': vote}
  for budget in budgets:
    options = {'draws': draws, 'seed': seed}
    parallel = voting.vote_accuracy(
      firsts, correct[:, :, :1], budget, **options
    )
    corrected = voting.vote_accuracy(
      voters, correct[:, :, begin:2], budget // 2, **options
    )
    columns = {
      'parallel': parallel,
      'corrected': corrected,
      'gain': corrected - parallel,
    }
    for name, (mean, interval) in bootstrap.means(columns, seed=seed).items():
      result.setdefault(name, []).append(mean)
      result.setdefault(f'{name}_ci95', []).append(interval)
  return result
