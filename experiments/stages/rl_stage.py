"""Parts of a reinforcement learning step: update, coefficients, metrics."""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import methods
from experiments.config import schema
from experiments.run import context, transcripts
from experiments.stages import stage_optimizer, stage_recorder
from score_jax import arrays, types
from score_jax.algorithm import (
  adaptive,
  advantages,
  overlong,
  rewards,
  stage_coefficients,
)
from score_jax.evaluation import evaluate
from score_jax.evaluation import metrics as metrics_lib
from score_jax.rollout import given_attempts, randomness
from score_jax.training import (
  device_layout,
  length_buckets,
  reference_policy,
  rl_update,
  teacher_forcing,
  train_state,
)

# DAPO's buffer is the last fifth of an attempt: 4,096 of 20,480 tokens.
_BUFFERS = 5


class Update(NamedTuple):
  """The compiled programs of RL, the same for all stages."""

  optimizer: optax.GradientTransformation
  # `rl_update.make_train_step`
  step: Callable[..., tuple[arrays.TrainState, rl_update.Metrics]]
  reference_logprobs: Callable[..., jax.Array]  # of `teacher_forcing`


def make_update(run: context.StoredRun, steps: int) -> Update:
  """The programs of a stage of so many steps.

  The same ones for equal settings and, unless the learning rate falls with the
  stage, for any number of steps.
  """
  settings = run.settings
  updates = settings.updates_per_rollout
  optimizer = stage_optimizer.make(
    settings,
    settings.learning_rate,
    warmup=settings.optimizer.warmup_steps * updates,
    updates=steps * updates,
  )
  return _make_update(run.layout, optimizer, **update_options(settings))


@functools.cache  # jit compiles once for each function object.
def _make_update(
  layout: device_layout.Layout,
  optimizer: optax.GradientTransformation,
  **options: Any,
) -> Update:
  forward = {'dtype': layout.activation_dtype, 'unroll': layout.unrolls}
  shardings = train_state.state_shardings(
    optimizer, layout.trained_shapes, layout.trained
  )
  step = rl_update.make_train_step(
    layout.config, optimizer, shardings=shardings, **forward, **options
  )
  reference_logprobs = teacher_forcing.make_reference_logprobs(
    layout, temperature=options['temperature']
  )
  return Update(optimizer, step, reference_logprobs)


def update_options(settings: schema.Settings) -> dict[str, Any]:
  """Options of `rl_update.make_train_step`, the same for all stages of a run.

  Coefficients are not among them: they are arguments of the compiled update, so
  that no stage compiles it again.
  """
  return {
    'kl': settings.kl,
    'temperature': settings.temperature,
    'attempt_tokens': settings.attempt_tokens,
    'max_grad_norm': settings.max_grad_norm,
    'mini_batches': settings.updates_per_rollout,
    'stale': settings.rollout.lag > 0,
    'samples_per_problem': settings.samples_per_problem,
    'importance_cap': settings.importance_cap,
    'micro_batches': settings.update_size // settings.micro_batch_size,
    'length_buckets': settings.length_buckets
    or length_buckets.default_count(settings.attempt_tokens),
    'remat': settings.remat,
  }


def given_first_attempts(
  run: context.Run,
  stage: methods.RLStage,
  reference: Any,
  problems: Sequence[types.Problem],
  before: Sequence[types.Problem] = (),
) -> given_attempts.GivenAttempts | None:
  """Off-policy first attempts for a share of a stage's sequences, or None.

  The reference policy samples them, from random numbers that do not depend on
  the step, so that a problem always has the same ones. The first share * G
  samples of each problem take them; `before` as in `EpisodeSampler.sample`.
  """
  samples = run.settings.samples_per_problem
  count = round(stage.given_share * samples)
  if not count:
    return None
  drawn = run.sampler.sample(
    run.layout.inference_params(reference_policy.on_device(reference)),
    problems,
    randomness.stream(run.settings.seed, 'collect', methods.BASE, 0),
    samples_per_problem=count,
    turns=1,
    temperature=run.settings.temperature,
    before=before,
  )
  return given_attempts.first_attempts_of(
    drawn,
    attempt=1,
    turns=stage.coefficients.turns,
    max_new_tokens=run.sampler.max_new_tokens[0],
    given_per_problem=count,
    samples_per_problem=samples,
  )


def coefficients_now(
  stage: methods.RLStage, state: arrays.TrainState
) -> stage_coefficients.Stage:
  """The stage's coefficients at this step, with the adapted beta2."""
  if not stage.is_adaptive:
    return stage.coefficients
  # From the host: jit would compile once more for coefficients on a device.
  return adaptive.with_beta2(stage.coefficients, np.asarray(state.beta2))


def adapt_beta2(
  settings: schema.Settings,
  stage: methods.RLStage,
  state: arrays.TrainState,
  metrics: Mapping[str, Any],
) -> arrays.TrainState:
  """The state with beta2 adapted to this step's KL and advantages.

  Unchanged where the stage's beta2 is fixed.
  """
  if not stage.is_adaptive:
    return state
  # The last turn's, whose reward Stage I maximises.
  magnitudes = sorted(m for m in metrics if m.startswith('advantage_magnitude'))

  def mean(metric):
    total, count = metrics[metric]
    return total / jnp.maximum(count, 1)

  beta2 = adaptive.adapt_beta2(
    state.beta2,
    mean('kl/turn1'),
    mean(magnitudes[-1]),
    initial=settings.beta2,
  )
  return state.replace(beta2=beta2)


def penalise_length(
  run: context.Run, trajectory: arrays.Trajectory, score: np.ndarray
) -> np.ndarray | jax.Array:
  """Scores, f32 [B, K], less the penalty of --overlong=penalty."""
  settings = run.settings
  if settings.overlong != 'penalty':
    return score
  limits = run.sampler.max_new_tokens[: score.shape[1]]
  buffer = settings.overlong_buffer or max(1, limits[0] // _BUFFERS)
  return score + overlong.soft_penalty(trajectory.turn, limits, buffer)


def learning_attempts(
  run: context.Run, trajectory: arrays.Trajectory
) -> jax.Array:
  """Attempts, bool [B, K], in baseline and loss as far as they are graded.

  Those that the policy sampled; with --overlong=mask, less those cut off.
  Without them in the baseline either, what is maximised is the mean reward of
  the attempts that end by themselves, and ending is not a reward of its own.
  """
  if run.settings.overlong == 'mask':
    return trajectory.sampled & trajectory.finished
  return trajectory.sampled


def kept_sequences(
  run: context.Run, reward: jax.Array, valid: jax.Array
) -> jax.Array | None:
  """Sequences, bool [B], that --drop-zero-spread leaves; None: all.

  Args:
    run: the run.
    reward: f32 [B, K].
    valid: bool [B, K], rewards that are in the baseline.
  """
  if not run.settings.drop_zero_spread:
    return None
  return advantages.has_spread(reward, valid, run.settings.samples_per_problem)


def reference_logprobs(
  run: context.Run,
  update: Update,
  reference: Any,
  trajectory: arrays.Trajectory,
) -> jax.Array | None:
  """Log-probabilities f32 [B, T] that --kl=reward needs; otherwise None.

  The devices make them while the attempts are graded. Those of the other forms
  of the KL are part of the update, chunk by chunk.

  Args:
    run: the run.
    update: its compiled update.
    reference: the policy that the stage is KL-anchored to, on the device.
    trajectory: B sequences.
  """
  if run.settings.kl != 'reward':
    return None
  return update.reference_logprobs(reference, trajectory)


def kl_advantages(
  run: context.Run,
  coefficients: stage_coefficients.Stage,
  reference_logprobs: jax.Array | None,
  trajectory: arrays.Trajectory,
  loss_mask: jax.Array,
) -> jax.Array | float:
  """What --kl=reward adds to the advantages of the scores; otherwise 0.

  Args:
    run: the run.
    coefficients: the stage's at this step.
    reference_logprobs: f32 [B, T], see `reference_logprobs`.
    trajectory: B sequences.
    loss_mask: bool [B, K], attempts that carry loss.

  Returns:
    f32 [B, K], the leave-one-out advantages of `rewards.kl_rewards`, or 0.
  """
  if reference_logprobs is None:
    return 0.0
  costs = rewards.kl_rewards(
    trajectory.logprobs, reference_logprobs, trajectory.turn, coefficients
  )
  return advantages.leave_one_out(
    costs, loss_mask, run.settings.samples_per_problem
  )


def attempt_metrics(
  episodes: Sequence[transcripts.Episode],
  samples_per_problem: int,
  coefficients: stage_coefficients.Stage,
) -> dict[str, float]:
  """Metrics of one batch of graded episodes, by name."""
  verdicts = [episode.verdicts for episode in episodes]
  attempts = [episode.attempts for episode in episodes]
  rewarded = [[verdict.for_training for verdict in row] for row in verdicts]
  labels = [verdict.label for row in rewarded for verdict in row]
  score = evaluate.own_scores(rewarded)
  graded = ~np.isnan(score)
  weight = np.asarray(coefficients.reward_weight)
  values = {
    'reward/timeouts': labels.count('timeout'),
    'reward/errors': labels.count('crash'),
    'reward/unparseable': labels.count('unparseable'),
    'reward/ungraded': int((~graded).sum()),
    stage_recorder.SELECTION: float(
      (np.nan_to_num(score) * weight).sum(axis=1).mean()
    ),
  }
  values |= _accuracies(verdicts)
  no_spread = metrics_lib.zero_spread(
    np.nan_to_num(score), samples_per_problem, graded
  )
  # Only of rewarded turns: Stage I has no reward in turn 1.
  values[stage_recorder.NO_SPREAD] = float(
    no_spread[:, weight > 0].all(axis=1).mean()
  )
  for k, share in enumerate(no_spread.mean(axis=0), start=1):
    values[f'score/frac_zero_spread_t{k}'] = float(share)
    cut = [not row[k - 1].finished for row in attempts]
    values[f'truncated/turn{k}'] = float(np.mean(cut))
  if len(attempts[0]) > 1:
    texts = metrics_lib.text_metrics(
      [row[0].text for row in attempts], [row[1].text for row in attempts]
    )
    values |= {f'score/{name}': value for name, value in texts.items()}
  return values


def _accuracies(
  verdicts: Sequence[Sequence[types.Verdict]],
) -> dict[str, float]:
  """Metrics of correct attempts, whatever training rewards."""
  score = evaluate.own_scores(verdicts)
  graded = ~np.isnan(score)
  # Corrections need the grades of all turns.
  all_graded = graded.all(axis=1)
  values = {}
  if any(verdict.reward for row in verdicts for verdict in row):
    # Otherwise reward/ungraded counts the same.
    values['score/ungraded'] = int((~graded).sum())
  if all_graded.any():
    numbers = metrics_lib.turn_metrics(score[all_graded] >= 0.5)
    values |= {f'score/{name}': value for name, value in numbers.items()}
  return values
