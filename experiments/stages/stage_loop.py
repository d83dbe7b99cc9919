"""The training loop of every stage, supervised or by reinforcement learning.

Restoring, logging, evaluating, saving and stopping are the recorder's, so that
a step is nothing but act, grade and learn.
"""

from collections.abc import Callable
import functools
from typing import Any

from experiments.run import context, outcome, policies
from experiments.stages import stage_recorder
from score_jax import arrays, types
from score_jax.models import lora


def train(
  run: context.Run,
  name: str,
  steps: int,
  state: arrays.TrainState,
  step: Callable[..., tuple[arrays.TrainState, stage_recorder.StepReport]],
  *,
  is_done: Callable[[int, Any], bool] = lambda number, policy: False,
  frozen: Any = None,
  **options: Any,
) -> Any:
  """Trains one stage, or goes on with it, and returns the chosen policy.

  Args:
    run: the run.
    name: the stage's name, and that of its directory.
    steps: number of updates.
    state: initial state; a checkpoint of the stage takes its place.
    step: (state, policy: the weights with the state's adapters in them, number
      of the step, recorder) -> (next state, report).
    is_done: (number of updates made, policy) -> whether to end before `steps`.
    frozen: base weights of the adapters, where only adapters are trained.
    **options: further arguments of `StageRecorder`.

  Returns:
    Parameters of the best or last checkpoint.

  Raises:
    StoppedError: a signal asked for it, and the last update is saved.
  """
  if run.directory.stage(name).is_finished(steps):
    return policies.restore(run, name, policies.chosen(run, name), frozen)
  whole = functools.partial(lora.complete, frozen=frozen)
  with stage_recorder.StageRecorder(
    run,
    name,
    steps,
    state,
    evaluate=lambda params: outcome.validation_metrics(run, whole(params)),
    **options,
  ) as recorder:
    state = recorder.state
    try:
      recorder.complete_record()
      for number in range(int(state.step), steps):
        if is_done(number, whole(state.params)):
          break
        recorder.begin_step()
        state, report = step(state, whole(state.params), number, recorder)
        recorder.end_step(state, report)
        run.stop.check()
    except types.StoppedError:
      recorder.save(state)
      raise
    recorder.save(state)
    return whole(recorder.chosen_policy())
