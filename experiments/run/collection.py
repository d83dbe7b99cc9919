"""Judged episodes of one policy on disk: what supervised phases learn from."""

from collections.abc import Iterator
import pathlib
from typing import Any

import numpy as np
from rich import console as rich_console

from experiments import methods
from experiments.config import schema
from experiments.run import building, progress, run_directory
from score_jax import arrays, distributed, types
from score_jax.evaluation import evaluate
from score_jax.io import stop_signals
from score_jax.rollout import randomness
from score_jax.tasks import batches
from score_jax.training import repair_sequences

_TURNS = 2


def collect(
  settings: schema.Settings,
  parts: building.Parts,
  directory: run_directory.StageDirectory,
  phase: methods.SFTStage,
  policy: Any,
  grader: types.Grader,
  console: rich_console.Console,
  stop: stop_signals.StopRequest,
) -> None:
  """Samples and judges the batches of a phase, a file each.

  A batch that has its file is not sampled again. What a batch holds depends on
  the policy and the batch's number alone, so that other methods which sample
  from the same policy have the same episodes.
  """
  paths = _paths(directory, phase)
  directory.collected.mkdir(parents=True, exist_ok=True)
  view = parts.layout.view(policy)
  there = distributed.by_first(
    lambda: {number for number, path in paths.items() if path.exists()}
  )
  done = len(there)
  with progress.stage(
    console, f'{directory.name} samples', len(paths), done=done, every=10
  ) as shown:
    for number, path in paths.items():
      if number in there:
        continue
      shown.update(
        *_sample(settings, parts, phase, view, number, path, grader, done + 1)
      )
      done += 1
      if stop.is_requested:
        return


def _sample(settings, parts, phase, view, number, path, grader, done):
  train, samples = parts.task.train, settings.samples_per_problem
  indices = batches.batch_indices(
    len(train), settings.problems_per_step, seed=settings.seed, step=number
  )
  trajectory = parts.sampler.sample(
    view,
    [train[i] for i in indices],
    randomness.stream(settings.seed, 'collect', phase.source, number),
    samples_per_problem=samples,
    turns=_TURNS,
    temperature=settings.temperature,
  )
  rows = [train[i] for i in indices for _ in range(samples)]
  verdicts = evaluate.grade_attempts(
    grader, rows, parts.sampler.attempts(trajectory)
  )
  score, graded = evaluate.score_arrays(verdicts)
  _save(path, trajectory, np.repeat(indices, samples), score, graded)
  means = np.where(graded, score, 0).sum(0) / np.maximum(graded.sum(0), 1)
  return done, {f'score/acc_t{k + 1}': m for k, m in enumerate(means)}


def read(
  directory: run_directory.StageDirectory, phase: methods.SFTStage
) -> tuple[arrays.Trajectory, np.ndarray, np.ndarray]:
  """All episodes of a phase on the host, with score and graded, [B, 2].

  `problem_index` is the problem's index among the training problems.
  """
  files = [_load(path) for path in _paths(directory, phase).values()]
  score = np.concatenate([file['score'] for file in files])
  graded = np.concatenate([file['graded'] for file in files])
  return repair_sequences.concatenate(list(_trajectories(files))), score, graded


def _paths(directory, phase) -> dict[int, pathlib.Path]:
  """The file of each batch, by its number."""
  numbers = range(phase.first_batch, phase.first_batch + phase.steps)
  return {n: directory.collected / f'{n:06d}.npz' for n in numbers}


def _save(path, trajectory, problems, score, graded) -> None:
  fields = {k: distributed.to_host(v) for k, v in vars(trajectory).items()}
  trajectory = arrays.Trajectory(**fields)
  distributed.by_first(
    lambda: _write(path, trajectory, problems, score, graded)
  )


def _write(path, trajectory, problems, score, graded) -> None:
  temporary = path.with_suffix('.tmp')
  with temporary.open('wb') as file:
    np.savez_compressed(
      file,
      tokens=trajectory.tokens,
      turn=trajectory.turn.astype(np.int8),
      length=trajectory.length,
      finished=trajectory.finished,
      problem=problems.astype(np.int32),
      score=score,
      graded=graded,
    )
  # A killed run leaves no half of a batch under the final name.
  temporary.replace(path)


def _load(path: pathlib.Path) -> dict[str, np.ndarray]:
  with np.load(path) as file:
    return {name: file[name] for name in file.files}


def _trajectories(files) -> Iterator[arrays.Trajectory]:
  for file in files:
    tokens = file['tokens']
    yield arrays.Trajectory(
      tokens=tokens,
      turn=file['turn'].astype(np.int32),
      sampled=np.ones(file['finished'].shape, bool),
      logprobs=np.zeros(tokens.shape, np.float32),
      length=file['length'],
      finished=file['finished'],
      problem_index=file['problem'],
    )
