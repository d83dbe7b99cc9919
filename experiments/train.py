"""SCoRe, end to end: `python -m experiments.train --preset=tiny`.

`train_rl_stage` is the method, top to bottom: act, grade, learn. Both stages
are the same with other coefficients (Kumar et al., ICLR 2025, Eq. 3 and 4).
"""

from collections.abc import Mapping, Sequence
import sys
from typing import Any

from experiments import methods
from experiments.config import command_line, paper_settings
from experiments.reporting import final_report
from experiments.run import (
  building,
  context,
  disk_space,
  outcome,
  policies,
  processes,
  run_directory,
)
from experiments.stages import (
  acting,
  guards,
  pretraining,
  rl_stage,
  sft_stage,
  stage_loop,
  stage_recorder,
)
from score_jax import arrays
from score_jax.algorithm import rewards
from score_jax.checkpoints import checkpoint_manifest
from score_jax.evaluation import evaluate
from score_jax.io import stop_signals
from score_jax.training import reference_policy, rl_update


def main(arguments: Sequence[str] | None = None) -> int:
  """Trains and evaluates what the flags ask for; returns the exit code."""
  settings = command_line.parse_settings(arguments)
  if settings.dry_run:
    paper_settings.print_settings(settings)
    print(disk_space.describe(settings))
    return 0
  directory = run_directory.RunDirectory(settings.directory)
  try:
    processes.begin(settings)
    console = processes.make_console()
    with directory.lock(), stop_signals.StopRequest() as stop:
      run = building.start(settings, directory, console, stop)
      train(run)
      if stop.is_requested:
        console.print(f'Stopped; the same command goes on with {directory}.')
      else:
        final_report.report(run)
      return stop.exit_code
  except run_directory.RunError as error:
    return processes.fail(error, 2)
  except (FloatingPointError, *checkpoint_manifest.ERRORS) as error:
    return processes.fail(error, 1)


def train(run: context.Run) -> None:
  """Trains the base policy, then each stage of the method from earlier ones."""
  plan = policies.make_plan(run)
  if outcome.is_complete(run, plan):
    run.console.print(f'{run.directory} is finished: nothing left to do.')
    return
  with guards.ready_to_train(run) as ready:
    make_policies(ready, plan)


def make_policies(run: context.Run, plan: methods.Stages) -> None:
  """Trains and evaluates each policy of the plan, the base policy first."""
  made: dict[str, Any] = {}
  for name in (methods.BASE, *plan):
    policy = make_policy(run, name, plan, made)
    outcome.evaluate_once(run, name, policy)
    run.stop.check()
    # No other name holds the device copy: once offloaded, its memory is free.
    made[name] = policy = policies.keep(run, policy)
    needed = policies.needed_later(plan, name)
    made = {n: p for n, p in made.items() if n in needed}


def make_policy(
  run: context.Run, name: str, plan: methods.Stages, made: Mapping[str, Any]
) -> Any:
  """Parameters of the base policy or of a stage, trained if need be."""
  if name == methods.BASE:
    return pretraining.base_policy(run)
  stage = plan[name]
  if not run.directory.stage(name).is_finished(stage.steps):
    outcome.forget(run, name)
  match stage:
    case methods.RLStage():
      return train_rl_stage(
        run, name, stage, made[stage.start], made[stage.reference]
      )
    case methods.SFTStage():
      return sft_stage.train_round(
        run, name, stage, made[stage.start], made[stage.source]
      )
    case methods.PromptStage():
      run.directory.stage(name).mark_finished(stage.steps)
      return reference_policy.on_device(made[stage.start])


def train_rl_stage(
  run: context.Run,
  name: str,
  stage: methods.RLStage,
  start: Any,
  reference: Any,
) -> Any:
  """Trains one stage of reinforcement learning; returns the chosen policy.

  Its parameters start from `start`, KL-anchored to those of `reference`.
  """
  samples = run.settings.samples_per_problem
  update = rl_stage.make_update(run, stage.steps)
  state = policies.begin_state(run, start, update.optimizer)
  reference = policies.make_reference(run, reference)
  actor = acting.Actor(run, name, stage, reference)

  def step(state, policy, number, recorder):
    # Act: K attempts of each of G samples.
    rollout = actor.begin(number, policy)
    recorder.write()  # The last step's record, while the devices sample.
    trajectory = rollout.wait()
    recorder.end_part('rollout')
    actor.begin_next(number, policy, recorder)

    # Grade: a score of every attempt, by the task's grader or --reward.
    anchor = reference_policy.on_device(reference)
    reference_logprobs = rl_stage.reference_logprobs(
      run, update, anchor, trajectory
    )
    episodes = rollout.grade()
    verdicts = [episode.verdicts for episode in episodes]
    score, graded = evaluate.score_arrays(verdicts)
    score = rl_stage.penalise_length(run, trajectory, score)
    recorder.end_part('grade')

    # Learn: each attempt is credited with its own shaped reward.
    coefficients = rl_stage.coefficients_now(stage, state)
    loss_mask = rl_stage.learning_attempts(run, trajectory) & graded
    reward, valid = rewards.shape_rewards(score, graded, coefficients)
    advantages = stage.advantages(reward, valid & loss_mask, samples)
    advantages += rl_stage.kl_advantages(
      run, coefficients, reference_logprobs, trajectory, loss_mask
    )
    kept = rl_stage.kept_sequences(run, reward, valid & loss_mask)
    batch = arrays.TrainBatch(
      trajectory, *run.layout.put_batch((advantages, kept))
    )
    inputs = (batch, loss_mask, coefficients)
    actor.wait_for_next(recorder)
    state, metrics = update.step(state, anchor, *inputs)
    if not rollout.is_fresh:
      del metrics[rl_update.GAP]

    # First what needs no device: on a CPU the rest waits for the update.
    values = rl_stage.attempt_metrics(episodes, samples, stage.coefficients)
    metrics |= rewards.reward_metrics(score, graded, loss_mask, coefficients)
    state = rl_stage.adapt_beta2(run.settings, stage, state, metrics)
    values['beta2'] = state.beta2
    return state, stage_recorder.StepReport(
      trajectory, metrics, values, episodes, inputs
    )

  return stage_loop.train(
    run, name, stage.steps, state, step, frozen=reference,
    saves_where_stopped=not run.settings.rollout.lag,
  )  # fmt: skip


if __name__ == '__main__':
  sys.exit(main())
