"""Problems and a policy in, graded attempts and the paper's metrics out."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, Literal

import jax
import numpy as np

from score_jax import distributed, types
from score_jax.evaluation import chains, metrics
from score_jax.rollout import episodes

History = Literal['all', 'last']


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Graded attempts of one policy.

  Attributes:
    problems: [M * G], each of M problems G times in succession.
    attempts: [M * G] lists of K.
    verdicts: of each attempt.
    samples_per_problem: G.
  """

  problems: Sequence[types.Problem]
  attempts: Sequence[Sequence[types.Attempt]]
  verdicts: Sequence[Sequence[types.Verdict]]
  samples_per_problem: int = 1

  @property
  def scores(self) -> np.ndarray:
    """Scores f64 [M * G, K]; NaN where grading failed."""
    return own_scores(self.verdicts)

  @property
  def is_graded(self) -> np.ndarray:
    """Problems whose attempts are all graded, bool [M]."""
    whole = ~np.isnan(self.scores).any(axis=1)
    return whole.reshape(-1, self.samples_per_problem).all(axis=1)

  def only(self, is_kept: np.ndarray) -> 'Evaluation':
    """The evaluation of the problems where `is_kept`, bool [M], is true."""
    index = np.flatnonzero(np.repeat(is_kept, self.samples_per_problem))
    parts = (
      [part[i] for i in index]
      for part in (self.problems, self.attempts, self.verdicts)
    )
    return Evaluation(*parts, self.samples_per_problem)

  def correct(self, threshold: float = 0.5) -> np.ndarray:
    """Attempts that score at least `threshold`, bool [M * G, K]."""
    return self.scores >= threshold

  def summary(self, *, threshold: float = 0.5, seed: int = 0) -> dict[str, Any]:
    """The metrics of the paper's tables, with 95 % intervals.

    Problems with an ungraded attempt are left out and counted in `ungraded`.
    Training rewards that are not the grader's scores have their means over all
    rewarded attempts, `reward_t1`, `reward_t2`, ....

    Raises:
      ValueError: every problem has an ungraded attempt.
    """
    is_graded = self.is_graded
    if not is_graded.any():
      raise ValueError(
        f'none of {len(is_graded)} problems could be graded: see the reasons '
        'of the verdicts'
      )
    samples = self.samples_per_problem
    summary = metrics.policy_summary(
      self.correct(threshold)[np.repeat(is_graded, samples)],
      samples_per_problem=samples,
      seed=seed,
    )
    ungraded = {'ungraded': int((~is_graded).sum())}
    return summary | mean_rewards(self.verdicts) | ungraded


def evaluate(
  sampler: episodes.EpisodeSampler,
  params: Any,
  problems: Sequence[types.Problem],
  grader: types.Grader,
  key: jax.Array,
  *,
  samples_per_problem: int = 1,
  greedy: bool = True,
  temperature: float = 1.0,
  batch_size: int = 256,
  history: History = 'all',
  on_batch: Callable[[int, int], None] | None = None,
  check: Callable[[], None] = lambda: None,
) -> Evaluation:
  """Samples attempts at each problem and grades every one.

  Collective: call it in every process.

  Args:
    sampler: samples the episodes.
    params: the policy, from `inference.inference_params`.
    problems: M of them, in the order of the result.
    grader: of the attempts; the policy never sees its verdicts.
    key: from `randomness.stream`, with the purpose 'evaluate'.
    samples_per_problem: G, episodes of each problem.
    greedy: the paper's decoding; False: sample at `temperature`.
    temperature: of sampling.
    batch_size: most episodes decoded at once.
    history: an attempt sees 'all' attempts before it, as in the paper, or the
      'last' one alone (see `chains`).
    on_batch: called after each batch with the numbers of problems that have
      been attempted and of all.
    check: called before each batch and before grading; what it raises abandons
      the evaluation.

  Returns:
    Attempts, verdicts and scores f64 [M * G, K]; `summary()` has the metrics.

  Example:
    >>> key = sj.step_key(0, 'evaluate', 'stage2', 0)
    >>> evaluation = sj.evaluate(
    ...   sampler, sj.inference_params(params), task.test[:8], grader, key)
    >>> evaluation.scores.shape
    (8, 2)
  """
  attempts = sample_attempts(
    sampler, params, problems, key,
    samples_per_problem=samples_per_problem, greedy=greedy,
    temperature=temperature, batch_size=batch_size, history=history,
    on_batch=on_batch,
    check=check,
  )  # fmt: skip
  check()
  repeated = [p for p in problems for _ in range(samples_per_problem)]
  verdicts = grade_attempts(grader, repeated, attempts)
  return Evaluation(repeated, attempts, verdicts, samples_per_problem)


def sample_attempts(
  sampler: episodes.EpisodeSampler,
  params: Any,
  problems: Sequence[types.Problem],
  key: jax.Array,
  *,
  samples_per_problem: int = 1,
  greedy: bool = True,
  temperature: float = 1.0,
  batch_size: int = 256,
  history: History = 'all',
  on_batch: Callable[[int, int], None] | None = None,
  check: Callable[[], None] = lambda: None,
) -> list[list[types.Attempt]]:
  """K attempts of each of M * G sequences; see `evaluate`. Collective."""
  sample = chains.sample_chain if history == 'last' else _sample_episodes
  attempts = []
  parts = sampler.batch_shards
  batch_size = min(max(1, batch_size // samples_per_problem), len(problems))
  batch_size = -(-batch_size // parts) * parts
  for start in range(0, len(problems), batch_size):
    check()
    batch = list(problems[start : start + batch_size])
    # The last batch is filled up, so that one compiled program serves all.
    filled = (batch * batch_size)[:batch_size]
    made = sample(
      sampler,
      params,
      filled,
      key,
      samples_per_problem=samples_per_problem,
      greedy=greedy,
      temperature=temperature,
    )
    attempts += made[: len(batch) * samples_per_problem]
    if on_batch is not None:
      on_batch(start + len(batch), len(problems))
  return attempts


def _sample_episodes(sampler, params, problems, key, **options):
  """Attempts that see all attempts before them, in one episode."""
  trajectory = sampler.sample(params, problems, key, **options)
  return sampler.attempts(trajectory)


def grade_attempts(
  grader: types.Grader,
  problems: Sequence[types.Problem],
  attempts: Sequence[Sequence[types.Attempt]],
) -> list[list[types.Verdict]]:
  """Verdicts on K attempts at each of B problems.

  Each process's grader grades its share, in one call. Collective: call it in
  every process.

  Args:
    grader: of the attempts.
    problems: [B], each as often as it has sequences.
    attempts: [B] lists of K, from `EpisodeSampler.attempts`.

  Returns:
    [B] lists of K.

  Example:
    >>> verdicts = sj.grade_attempts(grader, repeated, attempts)
    >>> len(verdicts), len(verdicts[0])
    (64, 2)
  """
  turns = len(attempts[0])
  asked = [
    (problem, attempt)
    for problem, episode in zip(problems, attempts, strict=True)
    for attempt in episode
  ]
  verdicts = distributed.share_out(
    lambda part: grader.grade(*zip(*part)), asked
  )
  return [verdicts[i : i + turns] for i in range(0, len(verdicts), turns)]


def own_scores(verdicts: Sequence[Sequence[types.Verdict]]) -> np.ndarray:
  """Scores of the verdicts, f64 [B, K], not of rewards apart; NaN: ungraded."""
  scores = [
    [np.nan if v.score is None else v.score for v in own] for own in verdicts
  ]
  return np.array(scores, np.float64)


def mean_rewards(
  verdicts: Sequence[Sequence[types.Verdict]],
) -> dict[str, float]:
  """Mean training reward of each turn as `reward_t1`, `reward_t2`, ....

  Over rewarded attempts. Empty where the grader's scores are the rewards.
  """
  means = {}
  for k, turn in enumerate(zip(*verdicts), start=1):
    rewards = [v.reward.score for v in turn if v.reward]
    known = [reward for reward in rewards if reward is not None]
    if known:
      means[f'reward_t{k}'] = float(np.mean(known))
  return means


def score_arrays(
  verdicts: Sequence[Sequence[types.Verdict]],
) -> tuple[np.ndarray, np.ndarray]:
  """Scores to train on, f32 [B, K], 0 where there is none; graded bool [B, K].

  They are the training rewards where verdicts have some.

  Example:
    >>> crash, correct = sj.Verdict('crash', None), sj.Verdict('correct', 1.0)
    >>> sj.score_arrays([[crash, correct]])
    (array([[0., 1.]], dtype=float32), array([[False,  True]]))
  """
  scores = own_scores([[v.for_training for v in own] for own in verdicts])
  graded = ~np.isnan(scores)
  return np.where(graded, scores, 0).astype(np.float32), graded
