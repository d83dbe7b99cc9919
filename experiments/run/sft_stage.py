"""A supervised baseline's loop: sample, pair, imitate.

STaR and Pair-SFT (sections 4 and 5 of the paper) learn from the policy's own
repairs. The rows are what reinforcement learning has, and so is all that a
phase leaves on disk; what differs is where the attempts come from.
"""

import functools
import json
import math
import pathlib
from typing import Any

import numpy as np
from rich import console as rich_console

from experiments import methods
from experiments.config import schema
from experiments.run import (
  building,
  collection,
  outcome,
  policies,
  run_directory,
  stage_recorder,
)
from score_jax import arrays, types
from score_jax.algorithm import repair_pairs
from score_jax.io import json_files, stop_signals
from score_jax.models import lora
from score_jax.rollout import engine, turn_separator
from score_jax.tasks import batches
from score_jax.training import compiled_updates, repair_sequences


def train_round(
  settings: schema.Settings,
  parts: building.Parts,
  directory: run_directory.StageDirectory,
  phase: methods.SFTStage,
  policy: Any,
  source: Any,
  grader: types.Grader,
  console: rich_console.Console,
  stop: stop_signals.StopRequest,
) -> Any:
  """Samples from `source`, fine-tunes `policy` on its repairs; the result."""
  if directory.is_finished(phase.steps):
    return policies.restore(parts, directory, 'latest', base=policy)

  # Act and judge: the whole budget of episodes, with one policy.
  collection.collect(
    settings, parts, directory, phase, source, grader, console, stop
  )
  if stop.is_requested:
    return policy
  rows, loss_mask = make_rows(settings, parts, directory, phase, console)

  # Learn: the paired attempts, token by token.
  optimizer, update = compiled_updates.make_supervised_update(
    settings, parts.layout
  )
  state = policies.begin_state(settings, parts, policy, optimizer)
  # The whole policy, where only adapters of it are trained.
  frozen = policy if settings.lora.rank else None
  whole = functools.partial(lora.complete, frozen=policy)
  steps = _updates(settings, phase, len(loss_mask))

  def evaluate(params):
    return outcome.held_out_metrics(settings, parts, grader, whole(params))

  with stage_recorder.StageRecorder(
    settings, directory, state, steps, console, evaluate
  ) as recorder:
    state = recorder.state
    for step in range(int(state.step), steps):
      recorder.begin_step()
      index = batches.batch_indices(
        len(loss_mask), settings.batch_size, seed=settings.seed, step=step
      )
      batch, step_loss_mask = parts.layout.put_batch(
        (repair_sequences.take(rows, index), loss_mask[index])
      )
      state, metrics = update(state, batch, step_loss_mask, frozen)
      recorder.end_supervised_step(state, metrics, batch)
      if stop.is_requested:
        recorder.save(state)
        return whole(state.params)
    chosen = whole(recorder.chosen_policy())
  # Fewer updates may have been enough for all epochs.
  directory.mark_finished(phase.steps)
  return chosen


def make_rows(
  settings: schema.Settings,
  parts: building.Parts,
  directory: run_directory.StageDirectory,
  phase: methods.SFTStage,
  console: rich_console.Console,
) -> tuple[arrays.Trajectory, np.ndarray]:
  """Sequences [P, T] of a phase's pairs, and their loss mask, bool [P, 2].

  pairs.json counts them, pairs.jsonl has one of each problem as text, in the
  form of `experiments.evaluate --split=train --given-attempts=FILE`.
  """
  episodes, score, graded = collection.read(directory, phase)
  problem = episodes.problem_index
  found = phase.construct(
    score, graded, problem, seed=settings.seed, both_right=phase.both_right
  )
  pairs = repair_pairs.limit(
    found,
    problem,
    seed=settings.seed,
    most_per_problem=settings.sft.most_per_problem,
    right_share=settings.sft.right_share,
  )
  counts = {
    'episodes': len(score),
    'found': len(found),
    'repairs': int((~pairs.first_right).sum()),
    'both_right': int(pairs.first_right.sum()),
    'problems': len(np.unique(problem[pairs.first_row])),
  }
  json_files.write_json(directory.path / 'pairs.json', counts)
  console.print(
    f'{directory.name}: {counts["repairs"]:,} repairs and '
    f'{counts["both_right"]:,} pairs of two right attempts from '
    f'{counts["episodes"]:,} episodes.',
    highlight=False,
  )
  rows = repair_sequences.splice(episodes, pairs, _row_length(parts))
  _write_texts(parts, rows, directory.path / 'pairs.jsonl')
  return rows, repair_sequences.attempt_loss_mask(pairs, settings.sft.learn)


def _write_texts(
  parts: building.Parts, rows: arrays.Trajectory, path: pathlib.Path
) -> None:
  """Writes the first pair of each problem, in the order of the episodes."""
  _, first = np.unique(rows.problem_index, return_index=True)
  shown = repair_sequences.take(rows, np.sort(first))
  lines = []
  for index, (before, after) in zip(
    shown.problem_index, parts.sampler.attempts(shown), strict=True
  ):
    problem = parts.task.train[index]
    pair = {'given_attempt': before.text, 'attempt': after.text}
    lines.append(json.dumps({'id': problem.id, **pair}) + '\n')
  json_files.write_text(path, ''.join(lines))


def _row_length(parts: building.Parts) -> int:
  """The longest row that an episode of two attempts can be."""
  sampler = parts.sampler
  separators = turn_separator.make_separators(
    sampler.chat_format, [parts.task.instruction]
  )
  return engine.sequence_length(
    sampler.buckets[-1], sampler.max_new_tokens[:2], separators.longest
  )


def _updates(
  settings: schema.Settings, phase: methods.SFTStage, pairs: int
) -> int:
  """Updates of a phase: the budget's, or fewer for so many epochs."""
  if not pairs:
    return 0
  if settings.sft.epochs is None:
    return phase.steps
  return min(
    phase.steps, math.ceil(settings.sft.epochs * pairs / settings.batch_size)
  )
