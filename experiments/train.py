"""SCoRe, end to end: `python -m experiments.train --preset=tiny`.

`train_stage` is the method, top to bottom: act, judge, learn. Both stages are
the same loop with other coefficients (Kumar et al., ICLR 2025, Eq. 3 and 4).
"""

from collections.abc import Mapping, Sequence
import contextlib
import functools
import sys
from typing import Any

import jax
import numpy as np
from rich import console as rich_console

from experiments import methods
from experiments.config import command_line, paper_settings, schema
from experiments.run import (
  base_model,
  building,
  outcome,
  policies,
  processes,
  run_directory,
  sft_stage,
  stage_recorder,
)
from score_jax import arrays, types
from score_jax.algorithm import rewards as rewards_lib
from score_jax.algorithm import stage_coefficients
from score_jax.evaluation import evaluate
from score_jax.io import stop_signals
from score_jax.models import lora
from score_jax.rollout import randomness
from score_jax.tasks import batches
from score_jax.training import (
  checkpoint_manifest,
  compiled_updates,
  reference_policy,
)


def main(arguments: Sequence[str] | None = None) -> int:
  """Makes the policies that are asked for, evaluates them, reports."""
  settings = command_line.parse_settings(arguments)
  if settings.dry_run:
    paper_settings.print_settings(settings, rich_console.Console())
    return 0
  run = run_directory.RunDirectory(settings.directory)
  try:
    processes.join(settings.processes)
    processes.check_started_alike(settings)
    console = processes.make_console()
    with run.lock(), stop_signals.StopRequest() as stop:
      train(settings, run, console, stop)
      if stop.is_requested:
        console.print(f'Stopped; the same command goes on with {run.path}.')
      else:
        outcome.report(settings, run, console)
      return stop.exit_code
  except run_directory.RunError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except (FloatingPointError, checkpoint_manifest.DamagedError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1


def train(
  settings: schema.Settings,
  run: run_directory.RunDirectory,
  console: rich_console.Console,
  stop: stop_signals.StopRequest,
) -> None:
  """Base policy, then the method's phases, each from the ones before."""
  task = building.load_task(base_model.resolve(settings, run))
  run.begin(settings, building.digests(task))
  parts = building.assemble(settings, task, run)
  plan = policies.make_plan(settings, run, console)
  if outcome.is_complete(settings, parts, run, plan):
    console.print(f'{run.path} is finished: there is nothing left to do.')
  else:
    with contextlib.closing(building.make_grader(task)) as grader:
      make_policies(settings, parts, run, plan, grader, console, stop)


def make_policies(
  settings: schema.Settings,
  parts: building.Parts,
  run: run_directory.RunDirectory,
  plan: methods.Stages,
  grader: types.Grader,
  console: rich_console.Console,
  stop: stop_signals.StopRequest,
) -> None:
  """Makes and evaluates each policy of the plan, the base first."""
  policy = policies.base_policy(settings, parts, run, console, stop)
  if stop.is_requested:
    return
  outcome.evaluate_once(
    settings, parts, run, methods.BASE, policy, grader, console
  )
  if stop.is_requested:
    return
  policy = policies.keep(settings, policy)
  made = {methods.BASE: policy}
  for name, phase in plan.items():
    if not run.stage(name).is_finished(phase.steps):
      outcome.forget(run, name)
    policy = make_policy(
      settings, parts, run.stage(name), phase, made, grader, console, stop
    )
    if stop.is_requested:
      return
    outcome.evaluate_once(settings, parts, run, name, policy, grader, console)
    policy = policies.keep(settings, policy)
    needed = methods.needed_later(plan, name)
    made = {n: p for n, p in (made | {name: policy}).items() if n in needed}


def make_policy(
  settings: schema.Settings,
  parts: building.Parts,
  directory: run_directory.StageDirectory,
  phase: methods.Stage,
  made: Mapping[str, Any],
  grader: types.Grader,
  console: rich_console.Console,
  stop: stop_signals.StopRequest,
) -> Any:
  """What a phase makes of the policies before it."""
  start = made[phase.start]
  match phase:
    case methods.RLStage():
      return train_stage(
        settings, parts, directory, phase, start, made[phase.reference],
        grader, console, stop,
      )  # fmt: skip
    case methods.SFTStage():
      return sft_stage.train_round(
        settings, parts, directory, phase, reference_policy.on_device(start),
        reference_policy.on_device(made[phase.source]),
        grader, console, stop,
      )  # fmt: skip
    case methods.PromptStage():
      directory.mark_finished(phase.steps)
      return reference_policy.on_device(start)


def train_stage(
  settings: schema.Settings,
  parts: building.Parts,
  directory: run_directory.StageDirectory,
  phase: methods.RLStage,
  policy: Any,
  reference: Any,
  grader: types.Grader,
  console: rich_console.Console,
  stop: stop_signals.StopRequest,
) -> Any:
  """Trains one stage, or goes on with it, and returns the chosen policy."""
  stage, steps = phase.coefficients, phase.steps
  samples = settings.samples_per_problem
  update = compiled_updates.make_update(settings, parts.layout)
  state = policies.begin_state(settings, parts, policy, update.optimizer)
  reference = policies.make_reference(settings, parts, reference)
  # The whole policy, where only adapters of the reference are trained.
  whole = functools.partial(lora.complete, frozen=reference)

  def evaluate_held_out(params):
    return outcome.held_out_metrics(settings, parts, grader, whole(params))

  with stage_recorder.StageRecorder(
    settings, directory, state, steps, console, evaluate_held_out
  ) as recorder:
    state = recorder.state
    for step in range(int(state.step), steps):
      recorder.begin_step()
      problems = batches.batch(
        parts.task.train, settings.problems_per_step, settings.seed, step
      )

      # Act: K attempts of each of G samples.
      trajectory = parts.sampler.sample(
        parts.layout.view(whole(state.params)),
        problems,
        randomness.stream(settings.seed, 'train', directory.name, step),
        samples_per_problem=samples,
        turns=stage.turns,
        temperature=settings.temperature,
        given=policies.given_first_attempts(
          settings, parts, reference, problems, phase
        ),
      )
      attempts = parts.sampler.attempts(trajectory)
      recorder.mark('rollout')

      # Judge: what the grader says of every attempt.
      rows = [problem for problem in problems for _ in range(samples)]
      verdicts = evaluate.grade_attempts(grader, rows, attempts)
      score, graded = evaluate.score_arrays(verdicts)
      recorder.mark('grade')

      # Learn: each attempt is credited with its own shaped reward.
      current = policies.stage_now(phase, state)
      rewards, valid, objective = shape(
        settings, update, current, reference, trajectory, score, graded
      )
      advantages = phase.advantages(
        rewards, valid & trajectory.sampled, samples
      )
      batch = arrays.TrainBatch(trajectory, parts.layout.put_batch(advantages))
      state, metrics = update.train_step(
        state,
        reference_policy.on_device(reference),
        batch,
        trajectory.sampled & graded,
        objective,
      )
      metrics |= rewards_lib.reward_metrics(score, graded, current)
      state = policies.adapt(phase, state, metrics)
      recorder.end_step(
        state, metrics, trajectory, rows, attempts, verdicts, stage
      )
      if stop.is_requested:
        recorder.save(state)
        return whole(state.params)
    return whole(recorder.chosen_policy())


def shape(
  settings: schema.Settings,
  update: compiled_updates.Update,
  stage: stage_coefficients.Stage,
  reference: Any,
  trajectory: arrays.Trajectory,
  score: np.ndarray,
  graded: np.ndarray,
) -> tuple[jax.Array, jax.Array, stage_coefficients.Stage]:
  """Rewards f32 [B, K], where they are known, and the stage for the loss.

  The latter's KL is what the loss still has to add.
  """
  rewards, valid = rewards_lib.shape_rewards(score, graded, stage)
  objective = stage
  if settings.kl == 'reward':
    rewards = rewards_lib.kl_in_reward(
      rewards,
      trajectory.logprobs,
      update.reference_logprobs(
        reference_policy.on_device(reference), trajectory
      ),
      trajectory.turn,
      stage,
    )
    objective = rewards_lib.without_kl(stage)
  return rewards, valid, objective


if __name__ == '__main__':
  sys.exit(main())
