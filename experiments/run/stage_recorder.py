"""What a stage leaves behind while it runs: metrics, samples, checkpoints."""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import logging
import time
from typing import Any

import numpy as np
from rich import console as rich_console

from experiments.config import schema
from experiments.run import progress, run_directory, transcripts
from score_jax import arrays, distributed, types
from score_jax.algorithm import masked, stage_coefficients
from score_jax.evaluation import metrics as metrics_lib
from score_jax.io import json_files, metric_log
from score_jax.training import checkpointing

_LOGGER = logging.getLogger(__name__)
_MOST_SKIPPED = 5
_SAMPLES_WRITTEN = 4
# The paper selects by training reward; ours is the score that the stage's
# weights count, without the bonus, which could rise by failing first.
_SELECTION = 'reward/selection'
_NO_SPREAD = 'score/frac_zero_spread'


class StageRecorder:
  """Restores, logs, shows and saves one stage; the loop itself stays pure."""

  def __init__(
    self,
    settings: schema.Settings,
    directory: run_directory.StageDirectory,
    state: arrays.TrainState,
    steps: int,
    console: rich_console.Console,
    evaluate: Callable[[Any], Mapping[str, float]],
  ):
    """Opens the stage's files; `self.state` is where to go on from.

    `evaluate` gives a policy's metrics on held-out problems.
    """
    self._evaluate = evaluate
    self._settings = settings
    self._directory = directory
    self._steps = steps
    self._console = console
    self._resources = contextlib.ExitStack()
    self._checkpoints = self._resources.enter_context(
      checkpointing.Checkpoints(directory.checkpoints)
    )
    restored = self._checkpoints.restore(state)
    self.state = restored.state if restored else state
    if not (restored or steps):
      self._checkpoints.save(0, state)
    done = int(self.state.step)
    if restored and done < steps:
      console.print(f'{directory.name}: going on after step {done} of {steps}.')
    json_files.truncate_lines(directory.samples, done)
    self._metrics = metric_log.MetricsLog(
      directory.name, directory.metrics, directory.tensorboard, done
    )
    self._samples = transcripts.SamplesLog(directory.name, directory.samples)
    self._resources.callback(self._metrics.close)
    self._resources.callback(self._samples.close)
    self._progress = self._resources.enter_context(
      progress.stage(console, directory.name, steps, done=done)
    )
    # Supervised updates have neither.
    records = distributed.by_first(
      lambda: [
        r for r in json_files.read_lines(directory.metrics) if _SELECTION in r
      ]
    )
    self._selection = [record[_SELECTION] for record in records]
    self._no_spread = [record[_NO_SPREAD] for record in records]
    self._marks: dict[str, float] = {}

  def __enter__(self) -> 'StageRecorder':
    return self

  def __exit__(self, *exception) -> None:
    self._resources.__exit__(*exception)

  def begin_step(self) -> None:
    """Starts the step's clock."""
    self._marks = {'begin': time.perf_counter()}

  def mark(self, phase: str) -> None:
    """Notes that a phase of the step has ended."""
    self._marks[phase] = time.perf_counter()

  def end_step(
    self,
    state: arrays.TrainState,
    metrics: Mapping[str, Any],
    trajectory: arrays.Trajectory,
    problems: Sequence[types.Problem],
    attempts: Sequence[Sequence[types.Attempt]],
    verdicts: Sequence[Sequence[types.Verdict]],
    stage: stage_coefficients.Stage,
  ) -> None:
    """Logs a step and saves when it is time.

    Raises:
      FloatingPointError: several updates in a row were not finite.
    """
    done = int(state.step)
    values = masked.means(metrics)
    values |= attempt_metrics(
      attempts, verdicts, self._settings.samples_per_problem, stage
    )
    values['beta2'] = float(state.beta2)
    self._selection.append(values[_SELECTION])
    self._no_spread.append(values[_NO_SPREAD])
    self._log(state, values, trajectory)
    every = self._settings.log_samples_every
    if every and done % every == 0:
      chosen = np.random.default_rng((self._settings.seed, done)).choice(
        len(attempts), min(_SAMPLES_WRITTEN, len(attempts)), replace=False
      )
      shown = [
        transcripts.Episode(problems[i], attempts[i], verdicts[i])
        for i in chosen
      ]
      self._samples.write(done, shown)
      transcripts.print_episodes(
        self._console, shown[:1], f'{self._directory.name}, step {done}'
      )
    window = self._settings.checkpoint_every
    if self._is_due(done):
      score = float(np.mean(self._selection[-window:]))
      self._checkpoints.save(done, state, score=score)

  def end_supervised_step(
    self,
    state: arrays.TrainState,
    metrics: Mapping[str, Any],
    rows: arrays.Trajectory,
  ) -> None:
    """Logs an update on rows that were given, and saves when it is time.

    Raises:
      FloatingPointError: several updates in a row were not finite.
    """
    self._log(state, masked.means(metrics), rows)
    done = int(state.step)
    if self._is_due(done):
      self._checkpoints.save(done, state)

  def _log(self, state, values: dict[str, float], trajectory) -> None:
    """What every step reports, however it learnt."""
    done = int(state.step)
    values |= {'skipped': int(state.skipped)} | self._speed(trajectory)
    every = self._settings.eval_every
    if every and done % every == 0:
      values |= self._evaluate(state.params)
    self._metrics.write(done, values)
    self._progress.update(done, values)
    self._stop_if_not_finite(state, trajectory)

  def _is_due(self, done: int) -> bool:
    """Whether a checkpoint is."""
    return done % self._settings.checkpoint_every == 0 or done == self._steps

  def save(self, state: arrays.TrainState) -> None:
    """Saves between two regular checkpoints, because the run must stop."""
    done = int(state.step)
    if done not in self._checkpoints.steps():
      self._checkpoints.save(done, state)

  def chosen_policy(self) -> Any:
    """The last or best checkpoint's parameters; marks the stage finished."""
    # Without episodes of its own a policy has no training reward.
    best = self._settings.checkpoint_selection == 'best' and self._selection
    restored = self._checkpoints.restore(
      self.state, 'best' if best else 'latest'
    )
    self._directory.mark_finished(self._steps)
    self._console.print(
      f'{self._directory.name}: finished; its policy is the '
      f'{"best by training reward" if best else "last"}, '
      f'of step {restored.step}.'
    )
    if self._no_spread:
      self._console.print(_spread_sentence(np.mean(self._no_spread)))
    return restored.state.params

  def _speed(self, trajectory) -> dict[str, float]:
    self.mark('update')
    names = list(self._marks)
    times = list(self._marks.values())
    phases = {
      f'perf/{name}_seconds': times[i + 1] - times[i]
      for i, name in enumerate(names[1:])
    }
    tokens = int((trajectory.turn > 0).sum())
    seconds = times[-1] - times[0]
    return phases | {
      'perf/step_seconds': seconds,
      'perf/tokens_per_second': tokens / seconds,
    }

  def _stop_if_not_finite(self, state, trajectory) -> None:
    skipped = int(state.skipped)
    if not skipped:
      return
    _LOGGER.warning(
      '%s, step %d: loss or gradient was not finite; the update was skipped',
      self._directory.name,
      int(state.step),
    )
    if skipped < _MOST_SKIPPED:
      return
    path = self._directory.path / 'not_finite.npz'
    fields = {k: distributed.to_host(v) for k, v in vars(trajectory).items()}
    distributed.by_first(lambda: np.savez(path, **fields))
    raise FloatingPointError(
      f'{skipped} updates in a row had a loss or gradient that is not finite; '
      f'the last episodes are in {path}. Try a smaller --learning-rate or '
      '--max-grad-norm, and continue from the last checkpoint'
    )


def _spread_sentence(share: float) -> str:
  """What the share of problems without reward spread, in [0, 1], means."""
  if share == 1:
    return (
      'Share of problems without reward spread: 100 %. No attempt was ever '
      'better than another at the same problem, so nothing was learnt.'
    )
  return f'Share of problems without reward spread: {share:.0%}.'


def attempt_metrics(
  attempts: Sequence[Sequence[types.Attempt]],
  verdicts: Sequence[Sequence[types.Verdict]],
  samples_per_problem: int,
  stage: stage_coefficients.Stage,
) -> dict[str, float]:
  """Numbers of one batch of judged episodes, by their metric names."""
  flat = [verdict for row in verdicts for verdict in row]
  score = np.array(
    [[np.nan if v.score is None else v.score for v in row] for row in verdicts]
  )
  graded = ~np.isnan(score)
  whole = graded.all(axis=1)
  values = {
    'reward/timeouts': sum(v.label == 'timeout' for v in flat),
    'reward/errors': sum(v.label == 'crash' for v in flat),
    'reward/unparseable': sum(v.label == 'unparseable' for v in flat),
    'reward/ungraded': int((~graded).sum()),
    _SELECTION: float(
      (np.nan_to_num(score) * np.asarray(stage.reward_weight)).sum(1).mean()
    ),
  }
  if whole.any():
    numbers = metrics_lib.turn_metrics(score[whole] >= 0.5)
    values |= {f'score/{name}': value for name, value in numbers.items()}
  without_spread = metrics_lib.zero_spread(
    np.nan_to_num(score), samples_per_problem, graded
  )
  rewarded = np.asarray(stage.reward_weight) > 0
  values[_NO_SPREAD] = float(without_spread[:, rewarded].all(axis=1).mean())
  for k, share in enumerate(without_spread.mean(axis=0), start=1):
    values[f'score/frac_zero_spread_t{k}'] = float(share)
    cut = [not row[k - 1].finished for row in attempts]
    values[f'truncated/turn{k}'] = float(np.mean(cut))
  if len(attempts[0]) > 1:
    texts = metrics_lib.text_metrics(
      [row[0].text for row in attempts], [row[1].text for row in attempts]
    )
    values |= {f'score/{name}': value for name, value in texts.items()}
  return values
