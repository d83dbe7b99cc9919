"""A supervised baseline's stage: sample, pair, imitate.

STaR and Pair-SFT (sections 4 and 5 of the paper) learn from the policy's own
repairs. Sequences, and the files of a stage, have the form that reinforcement
learning has.
"""

import json
import math
import pathlib
from typing import Any

import numpy as np

from experiments import methods
from experiments.run import context, outcome, policies, run_directory
from experiments.stages import (
  collection,
  stage_loop,
  stage_optimizer,
  stage_recorder,
)
from score_jax import arrays
from score_jax.algorithm import repair_pairs
from score_jax.io import json_files
from score_jax.rollout import turn_separator
from score_jax.tasks import batches
from score_jax.training import (
  reference_policy,
  repair_sequences,
  sft_update,
)


def train_round(
  run: context.Run, name: str, stage: methods.SFTStage, start: Any, source: Any
) -> Any:
  """Fine-tunes `start` on repairs that `source` sampled; returns the policy.

  Args:
    run: the run.
    name: the stage's name.
    stage: how pairs are made, and for how many steps.
    start: parameters that are fine-tuned.
    source: parameters of the policy that is sampled from.
  """
  directory = run.directory.stage(name)
  start = reference_policy.on_device(start)
  if directory.is_finished(stage.steps):
    return policies.restore(run, name, policies.chosen(run, name), base=start)

  # Act and grade: the whole budget of episodes, with one policy.
  collection.collect(run, name, stage, reference_policy.on_device(source))
  run.directory.share()
  pairs, loss_mask = make_sequences(run, directory, stage)

  # Learn: the paired attempts, token by token.
  steps = _updates(run, stage, len(loss_mask))
  optimizer, update = make_update(run, steps)
  state = policies.begin_state(run, start, optimizer)
  frozen = start if run.layout.adapters else None

  def step(state, policy, number, recorder):
    del policy, recorder
    index = batches.batch_indices(
      len(loss_mask),
      run.settings.batch_size,
      seed=run.settings.seed,
      step=number,
    )
    sequences, mask = run.layout.put_batch(
      (repair_sequences.take(pairs, index), loss_mask[index])
    )
    state, metrics = update(state, sequences, mask, frozen)
    return state, stage_recorder.StepReport(sequences, metrics)

  chosen = stage_loop.train(
    run, name, steps, state, step, frozen=frozen, select_by=_select_by(run)
  )
  # Of the budget's steps: --sft.epochs may have needed fewer updates.
  directory.mark_finished(stage.steps)
  return chosen


def make_update(run: context.Run, steps: int):
  """Optimizer and compiled update of a supervised stage of so many updates."""
  settings = run.settings
  optimizer = stage_optimizer.make(
    settings,
    settings.sft.learning_rate or settings.learning_rate,
    warmup=settings.optimizer.warmup_steps,
    updates=steps,
  )
  return optimizer, sft_update.make_update(
    run.layout,
    optimizer,
    attempt_tokens=settings.attempt_tokens,
    micro_batches=settings.batch_size // settings.micro_batch_size,
    remat=settings.remat,
  )


def make_sequences(
  run: context.Run,
  directory: run_directory.StageDirectory,
  stage: methods.SFTStage,
) -> tuple[arrays.Trajectory, np.ndarray]:
  """Sequences [P, T] of a stage's P pairs, and their loss mask, bool [P, 2].

  Writes the counts to pairs.json and, as text, one pair of each problem to
  pairs.jsonl, which `experiments.evaluate --split=train --given-attempts=FILE`
  reads.
  """
  settings = run.settings
  episodes, score, graded = collection.read(directory, stage)
  problem = episodes.problem_index
  found = stage.construct(
    score, graded, problem, seed=settings.seed, both_right=stage.both_right
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
  directory.written.replace_json(directory.pairs, counts)
  run.console.print(
    f'{directory.name}: {counts["repairs"]:,} repairs and '
    f'{counts["both_right"]:,} pairs of two right attempts from '
    f'{counts["episodes"]:,} episodes.',
    highlight=False,
  )
  sequences = repair_sequences.splice(episodes, pairs, _length(run))
  _write_texts(run, sequences, directory.path / 'pairs.jsonl')
  return sequences, repair_sequences.attempt_loss_mask(
    pairs, settings.sft.learn
  )


def _write_texts(
  run: context.Run, sequences: arrays.Trajectory, path: pathlib.Path
) -> None:
  """Writes the first pair of each problem, in the order of the episodes."""
  _, first = np.unique(sequences.problem_index, return_index=True)
  shown = repair_sequences.take(sequences, np.sort(first))
  lines = []
  for index, (before, after) in zip(
    shown.problem_index, run.sampler.attempts(shown), strict=True
  ):
    problem = run.task.train[index]
    pair = {'given_attempt': before.text, 'attempt': after.text}
    lines.append(json.dumps({'id': problem.id, **pair}) + '\n')
  json_files.write_text(path, ''.join(lines))


def _length(run: context.Run) -> int:
  """Tokens of the longest possible sequence of two attempts."""
  separators = turn_separator.make_separators(
    run.chat_format, [run.task.instruction]
  )
  return turn_separator.sequence_length(
    run.sampler.buckets[-1], run.sampler.max_new_tokens[:2], separators.longest
  )


def _select_by(run: context.Run) -> str:
  """The metric that checkpoints are chosen by."""
  if run.task.validation:
    return f'{outcome.VALIDATION}acc_t{run.settings.turns}'
  # No batch has it: the last checkpoint is taken.
  return stage_recorder.SELECTION


def _updates(run: context.Run, stage: methods.SFTStage, pairs: int) -> int:
  """Number of updates: the budget, or fewer if --sft.epochs needs fewer."""
  epochs = run.settings.sft.epochs
  if not pairs:
    return 0
  if epochs is None:
    return stage.steps
  return min(stage.steps, math.ceil(epochs * pairs / run.settings.batch_size))
