"""Records a stage while it runs: metrics, samples, checkpoints."""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import logging
from typing import Any

import numpy as np

from experiments.run import (
  context,
  outcome,
  policies,
  progress,
  transcripts,
)
from experiments.stages import alarms, not_finite, step_trace, stop_rules
from experiments.stages import intervals as intervals_lib
from score_jax import arrays, distributed, types
from score_jax.algorithm import masked
from score_jax.checkpoints import checkpointing
from score_jax.io import metric_log

_LOGGER = logging.getLogger(__name__)
_SAMPLES_WRITTEN = 4
# The paper selects by training reward. Ours is the weighted score without the
# bonus, which a policy could raise by failing first.
SELECTION = 'reward/selection'
NO_SPREAD = 'score/frac_zero_spread'
_LEARNING = 'learning_attempts'
# Metrics whose means over a whole stage are its last lines.
_SHARES = {
  NO_SPREAD: 'problems without reward spread',
  'clipped': 'updates with a clipped gradient',
}


@dataclasses.dataclass(frozen=True)
class StepReport:
  """Report of one update.

  Attributes:
    sequences: its batch.
    metrics: (sum, count) pairs by name, still on the devices.
    values: further numbers by name, there or on the host.
    episodes: graded episodes to show; none where nothing was sampled.
    inputs: of an update of RL, should it have to be made again.
  """

  sequences: arrays.Trajectory
  metrics: Mapping[str, Any]
  values: Mapping[str, float] = dataclasses.field(default_factory=dict)
  episodes: Sequence[transcripts.Episode] = ()
  inputs: not_finite.Inputs | None = None


class StageRecorder:
  """Restores, logs, shows and saves one stage, so that the loop need not."""

  def __init__(
    self,
    run: context.Run,
    name: str,
    steps: int,
    state: arrays.TrainState,
    evaluate: Callable[[Any], Mapping[str, float]],
    intervals: intervals_lib.Intervals | None = None,
    select_by: str = SELECTION,
    saves_where_stopped: bool = True,
  ):
    """Opens the stage's files; `self.state` is the one to go on from.

    Args:
      run: the run.
      name: the stage's name.
      steps: number of updates.
      state: initial state; the latest checkpoint takes its place.
      evaluate: returns validation metrics of the trained parameters.
      intervals: None: those of the settings.
      select_by: metric whose mean since the checkpoint before is the score of a
        checkpoint. One of `evaluate` is measured for each checkpoint.
      saves_where_stopped: False: not between checkpoints and evaluations.
    """
    self._run = run
    self._directory = run.directory.stage(name)
    self._steps = steps
    self._evaluate = evaluate
    self._intervals = intervals or intervals_lib.Intervals.of(run.settings)
    self._select_by = select_by
    self._saves_where_stopped = saves_where_stopped
    self._resources = contextlib.ExitStack()
    self._checkpoints = self._resources.enter_context(
      checkpointing.Checkpoints(self._directory.checkpoints, is_async=True)
    )
    with policies.explaining_damage(self._directory):
      restored = self._checkpoints.restore(state)
    self.state = restored.state if restored else state
    self._are_shrunk = False
    self._done = int(self.state.step)
    if restored and self._done < steps:
      run.console.print(f'{name}: going on after step {self._done} of {steps}.')
    self._open_logs(self._done)
    # Metrics of a step whose evaluation a signal kept from being made.
    self._held: dict[str, float] | None = None
    if restored:
      # What the next score needs is not left to a log that may be damaged.
      self._selection |= dict(restored.metadata.get('selection', ()))
      self._held = restored.metadata.get('held')
    elif not steps:
      # A stage without updates still has a policy, that it starts from.
      self._save(0, state)
    self._trace = self._resources.enter_context(
      contextlib.closing(
        step_trace.StepTrace(
          run.console,
          self._directory.profile,
          run.directory.shown(self._directory.profile),
          run.settings.profile,
        )
      )
    )
    self._marks: dict[str, float] = {}

  def _open_logs(self, done: int) -> None:
    """Opens metrics, samples and display; drops records of steps after `done`.

    A killed run may have logged further than its last checkpoint, from which
    these steps are made again.
    """
    directory = self._directory
    self._metrics = self._resources.enter_context(
      contextlib.closing(
        metric_log.MetricsLog(
          directory.name, directory.metrics, directory.tensorboard, done
        )
      )
    )
    self._samples = self._resources.enter_context(
      contextlib.closing(
        transcripts.SamplesLog(directory.name, directory.samples, done)
      )
    )
    self._progress = self._resources.enter_context(
      progress.stage(
        self._run.console,
        directory.name,
        self._steps,
        done=done,
        every=self._intervals.show,
      )
    )
    # Earlier steps count for the next checkpoint's score and the final share.
    records = distributed.by_first(
      lambda: list(directory.written.records(directory.metrics))
    )
    self._clock = step_trace.StepClock()
    # Step, values and alarms of the record that `write` writes.
    self._unwritten: tuple[int, dict[str, float], list[str]] | None = None
    self._resources.callback(self.write)
    self._selection: dict[int, float] = {}
    self._shares: dict[str, list[float]] = {name: [] for name in _SHARES}
    self._without_attempts = 0
    self._alarms = alarms.Alarms()
    for record in records:
      self._note(record['step'], record)
    self._last_logged = records[-1]['step'] if records else 0

  def __enter__(self) -> 'StageRecorder':
    return self

  def __exit__(self, *exception) -> None:
    self._resources.__exit__(*exception)

  def begin_step(self) -> None:
    """Starts the step's clock; raises the error of a save, if it failed."""
    self._checkpoints.poll()
    self._trace.begin_step()
    self._clock.begin_step()

  def end_part(self, part: str) -> None:
    """Notes the time at which a part of the step has ended.

    Raises:
      StoppedError: a signal came; a step that has not learnt leaves no trace.
    """
    # First: several processes agree by a collective, which the devices make
    # after all that they are doing.
    self._run.stop.check()
    self._clock.end_part(part)

  def end_step(self, state: arrays.TrainState, report: StepReport) -> None:
    """Waits for a step; shows samples and saves where an interval is over.

    Its record is kept for `write`.

    Raises:
      FloatingPointError: several updates in a row were not finite.
    """
    # Where sampling gave no time to, that of the step before.
    self.write()
    # Not read from the state, which would wait for the update to finish.
    self._done += 1
    self._trace.end_step(state)
    if _is_due(self._done, self._intervals.log) or self._done == self._steps:
      self._log(state, report)
    if _is_due(self._done, self._intervals.samples):
      self.write()
      self._show(report.episodes)
    if self._has_checkpoint(self._done):
      self._save(self._done, state, self._score())

  def complete_record(self) -> None:
    """Makes the evaluation of the last step that a signal kept from its record.

    Raises:
      StoppedError: another signal came.
    """
    if self._held is None:
      return
    if self._last_logged < self._done:
      # Else it was killed between here and the next checkpoint.
      self._record(self._held | dict(self._evaluate(self.state.params)))
      self.write()
      distributed.by_first(self._metrics.note)
    self._held = None
    if self._is_measured and self._has_checkpoint(self._done):
      # It was saved without the score that it is chosen by.
      self._checkpoints.set_score(self._done, self._score())

  @property
  def _is_measured(self) -> bool:
    """Whether the scores of checkpoints are measured on validation problems."""
    return self._select_by.startswith(outcome.VALIDATION)

  def pauses_after(self, step: int) -> bool:
    """Whether an evaluation or a checkpoint follows an update, from 1."""
    return self._is_evaluated(step) or self._has_checkpoint(step)

  def _is_evaluated(self, step: int) -> bool:
    return _is_due(step, self._intervals.evaluate) or (
      self._is_measured and self._has_checkpoint(step)
    )

  def _score(self) -> float | None:
    """The score of a checkpoint of this step."""
    # One batch is noisy: the mean since the checkpoint before.
    window = [value for _, value in self._window()]
    return float(np.mean(window)) if window else None

  def _window(self) -> list[tuple[int, float]]:
    """Steps of the last checkpoint's interval, with what they measured."""
    since = self._done - self._intervals.checkpoint
    return sorted(pair for pair in self._selection.items() if pair[0] > since)

  def _has_checkpoint(self, step: int) -> bool:
    return _is_due(step, self._intervals.checkpoint) or step == self._steps

  def _log(self, state: arrays.TrainState, report: StepReport) -> None:
    # Reads from the devices, and so waits for the update.
    values = masked.means(report.metrics)
    values |= {name: float(value) for name, value in report.values.items()}
    values['skipped'] = int(state.skipped)
    if self._intervals.log == 1:
      # With longer intervals steps overlap, and none has a time of its own.
      self._clock.end_part('update')
      values |= self._clock.speed(report.sequences)
    if self._is_evaluated(self._done):
      try:
        values |= self._evaluate(state.params)
      except types.StoppedError:
        # The update is made and is kept: `complete_record` evaluates it later.
        self._held = {name: float(value) for name, value in values.items()}
        return
    self._record(values)
    may_end = values['skipped'] or self._without_attempts
    if may_end or self._intervals.log > 1:
      # Before the error that may end the stage, or steps after the next one.
      self.write()
    name = self._directory.name
    inputs = report.inputs or report.sequences
    stop_rules.stop_if_not_finite(self._run, name, self._done, state, inputs)
    stop_rules.stop_without_attempts(name, self._without_attempts, values)

  def _record(self, values: dict[str, float]) -> None:
    """Keeps a step's record for `write`."""
    sentences = self._note(self._done, values)
    values['alarms'] = len(self._alarms.raised)
    self._unwritten = self._done, values, sentences

  def write(self) -> None:
    """Writes and shows the last step's record, if it is not written yet.

    To be called while the devices have something to do. The next step, samples,
    a checkpoint and the end of the stage come after it in any case.
    """
    if self._unwritten is None:
      return
    (step, values, sentences), self._unwritten = self._unwritten, None
    for sentence in sentences:
      _LOGGER.warning('%s, step %d: %s', self._directory.name, step, sentence)
    self._metrics.write(step, values)
    self._progress.update(step, values)

  def _note(self, step: int, values: Mapping[str, float]) -> list[str]:
    """Keeps what scores and last lines need; returns new alarms."""
    if self._select_by in values:
      self._selection[step] = values[self._select_by]
    for name in _SHARES.keys() & values.keys():
      self._shares[name].append(values[name])
    if _LEARNING in values:
      is_empty = values[_LEARNING] == 0
      self._without_attempts = self._without_attempts + 1 if is_empty else 0
    return self._alarms.read(values)

  def _show(self, episodes: Sequence[transcripts.Episode]) -> None:
    """Writes a few random episodes to samples.jsonl and prints one."""
    if not episodes:
      return
    generator = np.random.default_rng((self._run.settings.seed, self._done))
    chosen = generator.choice(
      len(episodes), min(_SAMPLES_WRITTEN, len(episodes)), replace=False
    )
    shown = [episodes[i] for i in chosen]
    self._samples.write(self._done, shown)
    transcripts.print_episodes(
      self._run.console, shown[:1], f'{self._directory.name}, step {self._done}'
    )

  def save(self, state: arrays.TrainState) -> None:
    """Saves outside of the regular interval, where the stage ends or stops.

    Not before the first update: the stage begins from the same state again.
    """
    done = int(state.step)
    if not self._saves_where_stopped and not self.pauses_after(done):
      last = max(self._checkpoints.steps(), default=0)
      _LOGGER.warning('with --rollout.lag it goes on from step %d', last)
      return
    if done and done not in self._checkpoints.steps():
      self._save(done, state)

  def _save(
    self, step: int, state: arrays.TrainState, score: float | None = None
  ) -> None:
    # First: whoever goes on from the checkpoint knows all lines up to it.
    self.write()
    for log in (self._metrics, self._samples):
      distributed.by_first(log.note)
    self._run.directory.push()
    metadata = {'selection': self._window(), 'held': self._held}
    self._checkpoints.save(step, state, metadata, score=score)
    self._shrink_earlier()

  def _shrink_earlier(self) -> None:
    if not self._are_shrunk:
      policies.shrink_before(self._run, self._directory.name)
      self._are_shrunk = True

  def chosen_policy(self) -> Any:
    """Marks the stage finished; returns parameters of its last or best step."""
    # It may have been killed between its last checkpoint and this.
    self._shrink_earlier()
    is_best = self._run.settings.checkpoint_selection == 'best'
    with policies.explaining_damage(self._directory):
      restored = self._checkpoints.restore(
        {'params': self.state.params},
        'best' if is_best else 'latest',
        partial=True,
      )
    # Pre-training and supervised stages may have measured nothing.
    is_best = is_best and restored.score is not None
    self._directory.mark_finished(self._steps)
    best = 'best by training reward'
    if self._select_by != SELECTION:
      best = 'best on the validation problems'
    self._run.console.print(
      f'{self._directory.name}: finished; its policy is the '
      f'{best if is_best else "last"}, '
      f'of step {restored.step}.'
    )
    for name, shares in self._shares.items():
      if shares:
        self._run.console.print(_sentence(name, np.mean(shares)))
    return restored.state['params']


def _is_due(step: int, interval: int) -> bool:
  return bool(interval) and step % interval == 0


def _sentence(name: str, share: float) -> str:
  """A sentence on a share, in [0, 1], of `_SHARES`."""
  if name == NO_SPREAD and share == 1:
    return (
      f'Share of {_SHARES[name]}: 100 %. No attempt was ever better than '
      'another at the same problem, so nothing was learnt.'
    )
  return f'Share of {_SHARES[name]}: {share:.0%}.'
