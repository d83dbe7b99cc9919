"""Inference scaling: spend samples on attempts, or on attempts and corrections.

The paper's section 6.2 (Figure 1, right) at temperature 0.7: a vote of 2K
attempts made in parallel, against K made in parallel with one correction each.
Both come from episodes that were drawn once, 32 of two turns for each problem;
smaller budgets are choices among them.
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
  """Accuracy of both ways to spend each budget.

  Args:
    keys: answers of N problems, G episodes, the first two attempts each.
    correct: bool [N, G, 2].
    budgets: attempts to spend on a problem, 2K each, at most G.
    vote: which attempts of a corrected episode vote: the second ones alone
      ('last') or both ('all'). The paper does not say. The default is 'last',
      because the second attempt is what the policy hands in and the first is
      one that it has just been told to mend; 'all' has twice the votes, and at
      K = 1 always keeps the first attempt.
    draws: choices of episodes for each budget.
    seed: of choices and intervals.

  Returns:
    `budgets`, and for `parallel`, `corrected` and their difference `gain`
    (corrected - parallel, paired by problem) a list `<name>` of accuracies and
    a list `<name>_ci95` of 95 % intervals, one a budget.

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
