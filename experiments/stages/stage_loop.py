"""The loop of every stage, whichever way it learns: one step after the other.

Restoring, logging, evaluating, saving and stopping are the recorder's, so that
a step is nothing but act, grade and learn.
"""

from collections.abc import Callable
import functools
from typing import Any

from experiments.run import context, outcome
from experiments.stages import stage_recorder
from score_jax import arrays
from score_jax.models import lora

# (state, the whole policy that it stands for, number of the step, recorder) ->
# (next state, what the step reports).
Step = Callable[
  [arrays.TrainState, Any, int, stage_recorder.StageRecorder],
  tuple[arrays.TrainState, stage_recorder.StepReport],
]


def train(
  run: context.Run,
  name: str,
  steps: int,
  state: arrays.TrainState,
  step: Step,
  *,
  frozen: Any = None,
  **options: Any,
) -> Any:
  """Trains one stage, or goes on with it, and returns the chosen policy.

  Args:
    run: of the stage.
    name: of the stage; its directory keeps everything.
    steps: number of updates.
    state: to begin with, where there is no checkpoint.
    step: one update.
    frozen: the weights that adapters belong to, where only these are trained.
    **options: of the recorder.

  Returns:
    Parameters of the stage's best or last checkpoint; when a signal asked to
    stop, of the newest one, which was saved.
  """
  whole = functools.partial(lora.complete, frozen=frozen)
  with stage_recorder.StageRecorder(
    run,
    name,
    steps,
    state,
    evaluate=lambda params: outcome.held_out_metrics(run, whole(params)),
    **options,
  ) as recorder:
    state = recorder.state
    for number in range(int(state.step), steps):
      recorder.begin_step()
      state, report = step(state, whole(state.params), number, recorder)
      recorder.end_step(state, report)
      if run.stop.is_requested:
        recorder.save(state)
        return whole(state.params)
    return whole(recorder.chosen_policy())
