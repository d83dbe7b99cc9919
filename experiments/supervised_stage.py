"""A supervised baseline's loop: sample, pair, imitate.

STaR and Pair-SFT (sections 4 and 5 of the paper) learn from the policy's own
repairs. The rows are what reinforcement learning has, and so is all that a
phase leaves on disk; what differs is where the attempts come from.
"""

import functools
import math
from typing import Any

import numpy as np
from rich import console as rich_console

from experiments import (
  assembly,
  collection,
  files,
  interrupts,
  methods,
  outcome,
  policies,
  run_directory,
  stage_recorder,
)
from experiments import settings as settings_lib
from score_jax import arrays, types
from score_jax.algorithm import repair_pairs
from score_jax.rollout import engine
from score_jax.tasks import batches
from score_jax.training import repair_rows
from score_jax.training import step as step_lib


def train_round(
  settings: settings_lib.Settings,
  parts: assembly.Parts,
  directory: run_directory.StageDirectory,
  phase: methods.Supervised,
  policy: Any,
  source: Any,
  grader: types.Grader,
  console: rich_console.Console,
  stop: interrupts.StopRequest,
) -> Any:
  """Samples from `source`, fine-tunes `policy` on its repairs; the result."""
  if directory.is_finished(phase.steps):
    return policies.restore(parts, directory, 'latest')

  # Act and judge: the whole budget of episodes, with one policy.
  collection.collect(
    settings, parts, directory, phase, source, grader, console, stop
  )
  if stop.is_requested:
    return policy
  rows, learnt = make_rows(settings, parts, directory, phase, console)

  # Learn: the paired attempts, token by token.
  optimizer, update = assembly.make_supervised_update(settings, parts.layout)
  state = step_lib.init_state(policy, optimizer)
  steps = _updates(settings, phase, len(learnt))
  evaluate = functools.partial(
    outcome.held_out_metrics, settings, parts, grader
  )
  with stage_recorder.StageRecorder(
    settings, directory, state, steps, console, evaluate
  ) as recorder:
    state = recorder.state
    for step in range(int(state.step), steps):
      recorder.begin_step()
      index = batches.batch_indices(
        len(learnt), settings.rows, seed=settings.seed, step=step
      )
      batch, learnt_now = parts.layout.put_rows(
        (repair_rows.take(rows, index), learnt[index])
      )
      state, metrics = update(state, batch, learnt_now)
      recorder.end_supervised_step(state, metrics, batch)
      if stop.is_requested:
        recorder.save(state)
        return state.params
    policy = recorder.chosen_policy()
  # Fewer updates may have been enough for all epochs.
  directory.mark_finished(phase.steps)
  return policy


def make_rows(
  settings: settings_lib.Settings,
  parts: assembly.Parts,
  directory: run_directory.StageDirectory,
  phase: methods.Supervised,
  console: rich_console.Console,
) -> tuple[arrays.Trajectory, np.ndarray]:
  """Rows [P, T] of a phase's pairs, and which attempts are learnt, [P, 2].

  Writes how many there are to pairs.json.
  """
  episodes, score, graded = collection.read(directory, phase)
  problem = episodes.problem_index
  pairs = phase.construct(
    score, graded, problem, seed=settings.seed, both_right=phase.both_right
  )
  found = len(pairs)
  pairs = repair_pairs.limit(
    pairs,
    problem,
    seed=settings.seed,
    most_per_problem=settings.sft.most_per_problem,
    right_share=settings.sft.right_share,
  )
  both_right = int(pairs.first_right.sum())
  files.write_json(
    directory.path / 'pairs.json',
    {
      'episodes': len(score),
      'found': found,
      'repairs': len(pairs) - both_right,
      'both_right': both_right,
      'problems': len(np.unique(problem[pairs.first_row])),
    },
  )
  console.print(
    f'{directory.name}: {len(pairs) - both_right:,} repairs and '
    f'{both_right:,} pairs of two right attempts from {len(score):,} episodes.',
    highlight=False,
  )
  rows = repair_rows.splice(episodes, pairs, _row_length(parts))
  return rows, repair_rows.learnt_attempts(pairs, settings.sft.learn)


def _row_length(parts: assembly.Parts) -> int:
  """The longest row that an episode of two attempts can be."""
  sampler = parts.sampler
  boundary = engine.make_boundaries(
    sampler.chat_format, [parts.task.instruction]
  )
  return engine.row_length(
    sampler.buckets[-1], sampler.limits[:2], boundary.block
  )


def _updates(
  settings: settings_lib.Settings, phase: methods.Supervised, pairs: int
) -> int:
  """Updates of a phase: the budget's, or fewer for so many epochs."""
  if not pairs:
    return 0
  if settings.sft.epochs is None:
    return phase.steps
  return min(
    phase.steps, math.ceil(settings.sft.epochs * pairs / settings.rows)
  )
