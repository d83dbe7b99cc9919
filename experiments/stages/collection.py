"""Graded episodes of one policy on disk, which supervised stages learn from."""

from collections.abc import Iterator
import itertools
import logging
import pathlib
from typing import Any

import numpy as np

from experiments import methods
from experiments.run import context, progress, run_directory
from experiments.stages import acting
from score_jax import arrays, distributed
from score_jax.evaluation import evaluate
from score_jax.rollout import randomness
from score_jax.tasks import batches

_LOGGER = logging.getLogger(__name__)
_TURNS = 2


def collect(
  run: context.Run, name: str, stage: methods.SFTStage, policy: Any
) -> None:
  """Samples and grades the batches of a stage into a file each.

  A batch whose file is intact is not sampled again. It depends on the policy
  and its number alone, so that methods that sample from the same policy have
  the same episodes, and a damaged one is the same again.
  """
  directory = run.directory.stage(name)
  paths = _paths(directory, stage)
  directory.collected.mkdir(parents=True, exist_ok=True)
  params = run.layout.inference_params(policy)
  existing = distributed.by_first(
    lambda: {number for number, path in paths.items() if _is_intact(path)}
  )
  done = len(existing)
  with progress.stage(
    run.console, f'{name} samples', len(paths), done=done, every=10
  ) as shown:
    missing = [number for number in paths if number not in existing]
    ahead = None
    for number, following in itertools.zip_longest(missing, missing[1:]):
      run.stop.check()
      rollout = ahead or _begin(run, stage, params, number)
      trajectory = rollout.wait()
      # Sampled while this one is graded; the policy is the same.
      ahead = None
      if following is not None:
        ahead = _begin(run, stage, params, following)
      accuracies = _grade(run, rollout, trajectory, number, paths[number])
      run.directory.push()
      done += 1
      shown.update(done, accuracies)


def _begin(
  run: context.Run, stage: methods.SFTStage, params: Any, number: int
) -> acting.Rollout:
  """Lets the devices sample a batch; does not wait."""
  problems = [run.train_problems[i] for i in _indices(run, number)]
  trajectory = run.sampler.sample(
    params,
    problems,
    randomness.stream(run.settings.seed, 'collect', stage.source, number),
    samples_per_problem=run.settings.samples_per_problem,
    turns=_TURNS,
    temperature=run.settings.temperature,
  )
  return acting.Rollout(run, [(problems, trajectory)])


def _indices(run: context.Run, number: int) -> np.ndarray:
  """Indices of a batch's problems among those that stages train on."""
  return batches.batch_indices(
    len(run.train_problems),
    run.settings.problems_per_step,
    seed=run.settings.seed,
    step=number,
  )


def _grade(
  run: context.Run,
  rollout: acting.Rollout,
  trajectory: arrays.Trajectory,
  number: int,
  path: pathlib.Path,
) -> dict[str, float]:
  """Grades and saves a batch that is sampled; its accuracies by metric."""
  verdicts = [episode.verdicts for episode in rollout.grade()]
  # Pairs are of right and wrong attempts, whatever training rewards.
  score = evaluate.own_scores(verdicts)
  graded = ~np.isnan(score)
  score = np.where(graded, score, 0).astype(np.float32)
  problems = np.repeat(_indices(run, number), run.settings.samples_per_problem)
  _save(path, trajectory, problems, score, graded)
  means = score.sum(0) / np.maximum(graded.sum(0), 1)
  return {f'score/acc_t{k + 1}': m for k, m in enumerate(means)}


def read(
  directory: run_directory.StageDirectory, stage: methods.SFTStage
) -> tuple[arrays.Trajectory, np.ndarray, np.ndarray]:
  """All B episodes of a stage, score f32 [B, 2] and graded bool [B, 2].

  On the host. `problem_index` is the index among the training problems.
  """
  files = [_load(path) for path in _paths(directory, stage).values()]
  score = np.concatenate([file['score'] for file in files])
  graded = np.concatenate([file['graded'] for file in files])
  trajectories = list(_trajectories(files))
  return arrays.concatenate(trajectories, np), score, graded


def _paths(
  directory: run_directory.StageDirectory, stage: methods.SFTStage
) -> dict[int, pathlib.Path]:
  """The file of each batch, by its number."""
  numbers = range(stage.first_batch, stage.first_batch + stage.steps)
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
      # A quarter of the bytes; there are two turns.
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
  # numpy leaves a damaged file open that it has opened itself.
  with path.open('rb') as opened, np.load(opened) as file:
    return {name: file[name] for name in file.files}


def _is_intact(path: pathlib.Path) -> bool:
  """Whether a batch can be read; its parts have checksums in the file."""
  if not path.exists():
    return False
  try:
    _load(path)
  except Exception as error:
    # zipfile, zlib and numpy have no common exception for bad bytes.
    _LOGGER.warning('%s is damaged and sampled again: %s', path, error)
    return False
  return True


def _trajectories(files) -> Iterator[arrays.Trajectory]:
  # Log-probabilities are not stored: the supervised loss does not read them.
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
