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

from experiments import (
  assembly,
  base_model,
  cluster,
  flags,
  interrupts,
  outcome,
  paper,
  policies,
  run_directory,
  stage_recorder,
)
from experiments import settings as settings_lib
from score_jax import arrays, types
from score_jax.algorithm import advantages as advantages_lib
from score_jax.algorithm import rewards as rewards_lib
from score_jax.algorithm import stages
from score_jax.evaluation import evaluate
from score_jax.rollout import randomness
from score_jax.tasks import batches
from score_jax.training import manifest
from score_jax.training import step as step_lib


def main(arguments: Sequence[str] | None = None) -> int:
  """Makes the policies that are asked for, evaluates them, reports."""
  settings = flags.parse_settings(arguments)
  if settings.dry_run:
    paper.print_settings(settings, rich_console.Console())
    return 0
  run = run_directory.RunDirectory(settings.directory)
  try:
    cluster.join(settings.processes)
    cluster.check_started_alike(settings)
    console = cluster.make_console()
    with run.lock(), interrupts.StopRequest() as stop:
      train(settings, run, console, stop)
      if stop.is_requested:
        console.print(f'Stopped; the same command goes on with {run.path}.')
      return stop.exit_code
  except run_directory.RunError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except (FloatingPointError, manifest.DamagedError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1


def train(
  settings: settings_lib.Settings,
  run: run_directory.RunDirectory,
  console: rich_console.Console,
  stop: interrupts.StopRequest,
) -> None:
  """Base policy, then the stages, each from the one before; then the tables."""
  task = assembly.load_task(base_model.resolve(settings, run))
  run.begin(settings, assembly.digests(task))
  parts = assembly.assemble(settings, task, run)
  plan = policies.make_plan(settings, run, console)
  if outcome.is_complete(settings, parts, run, plan):
    console.print(f'{run.path} is finished: there is nothing left to do.')
  else:
    with contextlib.closing(assembly.make_grader(task)) as grader:
      make_policies(settings, parts, run, plan, grader, console, stop)
  if not stop.is_requested:
    outcome.report(settings, run, console)


def make_policies(
  settings: settings_lib.Settings,
  parts: assembly.Parts,
  run: run_directory.RunDirectory,
  plan: Mapping[str, stages.Stage],
  grader: types.Grader,
  console: rich_console.Console,
  stop: interrupts.StopRequest,
) -> None:
  """Makes and evaluates each policy of the plan, the base first."""
  base = policy = policies.base_policy(settings, parts, run, console, stop)
  if stop.is_requested:
    return
  outcome.evaluate_once(settings, parts, run, 'base', base, grader, console)
  for name, stage in plan.items():
    if stop.is_requested:
      return
    if not run.stage(name).is_finished(
      settings_lib.stage_steps(settings, name)
    ):
      outcome.forget(run, name)
    # Every Stage I is held to the policy that it starts from.
    reference = policy if name.startswith('stage1') else base
    policy = train_stage(
      settings, parts, run.stage(name), stage, policy, reference, grader,
      console, stop,
    )  # fmt: skip
    if stop.is_requested:
      return
    outcome.evaluate_once(settings, parts, run, name, policy, grader, console)


def train_stage(
  settings: settings_lib.Settings,
  parts: assembly.Parts,
  directory: run_directory.StageDirectory,
  stage: stages.Stage,
  policy: Any,
  reference: Any,
  grader: types.Grader,
  console: rich_console.Console,
  stop: interrupts.StopRequest,
) -> Any:
  """Trains one stage, or goes on with it, and returns the chosen policy."""
  steps = settings_lib.stage_steps(settings, directory.name)
  samples = settings.samples_per_problem
  update = assembly.make_update(settings, parts.layout)
  sampler, train = parts.sampler, parts.task.train
  evaluate_held_out = functools.partial(
    outcome.held_out_metrics, settings, parts, grader
  )
  state = step_lib.init_state(policy, update.optimizer, beta2=settings.beta2)
  with stage_recorder.StageRecorder(
    settings, directory, state, steps, console, evaluate_held_out
  ) as recorder:
    state = recorder.state
    for step in range(int(state.step), steps):
      recorder.begin_step()
      indices = batches.batch_indices(
        len(train), settings.problems_per_step, seed=settings.seed, step=step
      )
      problems = [train[i] for i in indices]

      # Act: K attempts of each of G samples.
      trajectory = sampler.sample(
        parts.layout.view(state.params),
        problems,
        randomness.stream(settings.seed, 'train', directory.name, step),
        samples_per_problem=samples,
        turns=stage.turns,
        temperature=settings.temperature,
        given=policies.given_first_attempts(
          settings, parts, reference, problems, directory.name, stage.turns
        ),
      )
      attempts = sampler.attempts(trajectory)
      recorder.mark('rollout')

      # Judge: what the grader says of every attempt.
      rows = [problem for problem in problems for _ in range(samples)]
      verdicts = evaluate.judge(grader, rows, attempts)
      score, graded = evaluate.score_arrays(verdicts)
      recorder.mark('grade')

      # Learn: each attempt is credited with its own shaped reward.
      current = policies.stage_now(settings, directory.name, stage, state)
      advantages, objective = credit(
        settings, update, current, reference, trajectory, score, graded
      )
      batch = arrays.TrainBatch(trajectory, parts.layout.put_rows(advantages))
      state, metrics = update.train_step(
        state, reference, batch, trajectory.sampled & graded, objective
      )
      metrics |= rewards_lib.reward_metrics(score, graded, current)
      state = policies.adapt(settings, directory.name, state, metrics)
      recorder.end_step(
        state, metrics, trajectory, rows, attempts, verdicts, stage
      )
      if stop.is_requested:
        recorder.save(state)
        return state.params
    return recorder.chosen_policy()


def credit(
  settings: settings_lib.Settings,
  update: assembly.Update,
  stage: stages.Stage,
  reference: Any,
  trajectory: arrays.Trajectory,
  score: np.ndarray,
  graded: np.ndarray,
) -> tuple[jax.Array, stages.Stage]:
  """Advantages f32 [B, K], and the stage whose KL the loss still has to add."""
  rewards, valid = rewards_lib.shape_rewards(score, graded, stage)
  objective = stage
  if settings.kl == 'reward':
    rewards = rewards_lib.kl_in_reward(
      rewards,
      trajectory.logprobs,
      update.reference_logprobs(reference, trajectory),
      trajectory.turn,
      stage,
    )
    objective = rewards_lib.without_kl(stage)
  advantages = advantages_lib.leave_one_out(
    rewards, valid & trajectory.sampled, settings.samples_per_problem
  )
  return advantages, objective


if __name__ == '__main__':
  sys.exit(main())
