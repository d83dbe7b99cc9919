"""From settings to the parts of a run: task, tokenizer, model, sampler."""

from collections.abc import Sequence
import dataclasses
import hashlib
import logging
from typing import Any

import numpy as np

from experiments.config import schema
from experiments.run import base_model, processes, run_directory
from score_jax import distributed, types
from score_jax.grading.sandbox import probe
from score_jax.models import model_config
from score_jax.rollout import episodes, prompt_buckets
from score_jax.tasks import arithmetic, registry
from score_jax.training import layout

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Parts:
  """What a run is made of.

  Attributes:
    task: its problems all fit into the model's prompts.
    sampler: makes episodes.
    config: the model.
    layout: where arrays lie.
  """

  task: types.Task
  sampler: episodes.EpisodeSampler
  config: model_config.ModelConfig
  layout: layout.Layout


def load_task(settings: schema.Settings) -> types.Task:
  """The task that is asked for; processes talk.

  Raises:
    RunError: its data are not there, cannot be read, or are too few; or not all
      processes have the same.
  """
  task = distributed.everywhere(lambda: _load_task(settings))
  processes.check_same(
    digests(task), 'these are digests of problems: give all the same data'
  )
  return task


def _load_task(settings):
  try:
    data = settings.data
    return registry.load_task(
      settings.task,
      data_dir=settings.data_dir,
      chat=settings.chat_style == 'gemma',
      first_prompt=settings.first_prompt,
      instruction=settings.instruction,
      rewards=settings.reward,
      sandbox=settings.sandbox,
      workers=settings.workers,
      seed=settings.seed,
      file=data.file,
      test_file=data.test_file,
      columns={
        'question': data.question,
        'reference': data.reference,
        'id': data.id,
      },
      grader=data.grader,
      drop_near_duplicates=data.drop_near_duplicates,
      options=_arithmetic_options(settings),
    )
  except (OSError, ValueError) as error:
    raise run_directory.RunError(str(error)) from error


def make_grader(task: types.Task) -> types.Grader:
  """The task's grader, its workers started; processes talk.

  Raises:
    RunError: it cannot work here: no sandbox holds, or a reward is not there.
  """
  return distributed.everywhere(lambda: _make_grader(task))


def _make_grader(task):
  try:
    return task.make_grader()
  except (OSError, ValueError, probe.NoSandboxError) as error:
    raise run_directory.RunError(str(error)) from error


def _arithmetic_options(settings: schema.Settings) -> dict[str, Any]:
  if settings.task != arithmetic.NAME:
    return {}
  return {
    'digits': settings.arithmetic.digits,
    'chain': settings.arithmetic.nines,
    'num_test': max(2000, settings.eval_problems),
  }


def digests(task: types.Task) -> dict[str, str]:
  """Fingerprints of what is asked and what is right, by split."""
  return {'train': _digest(task.train), 'test': _digest(task.test)}


def _digest(problems: Sequence[types.Problem]) -> str:
  total = hashlib.sha256()
  for problem in problems:
    fields = (problem.id, problem.question, problem.reference)
    total.update('\0'.join(fields).encode() + b'\n')
  return total.hexdigest()[:16]


def assemble(
  settings: schema.Settings,
  task: types.Task,
  run: run_directory.RunDirectory,
) -> Parts:
  """Builds the parts; makes the run's tokenizer if it has none."""
  config, chat_format = base_model.load(settings, task, run)
  places = layout.make(settings, config)
  task, lengths = _keep_fitting(task, chat_format, settings.max_prompt_tokens)
  sampler = episodes.EpisodeSampler(
    config=config,
    chat_format=chat_format,
    task=task,
    max_new_tokens=(settings.max_attempt_tokens,) * settings.turns,
    buckets=prompt_buckets.choose_buckets(lengths),
    dtype=places.dtype,
    sharding=places.rollout.batch,
  )
  return Parts(task, sampler, config, places)


def reopen(
  run: run_directory.RunDirectory,
) -> tuple[schema.Settings, Parts]:
  """Settings and parts of a run that is there; changes nothing on disk.

  Raises:
    RunError: there is no such run, or its data are others now.
  """
  settings = run.read_settings()
  if not run.tokenizer.exists():
    raise run_directory.RunError(
      f'there is no {run.tokenizer}; go on with it: python -m '
      f'experiments.train --preset={settings.preset} --run-dir={run.path}'
    )
  task = load_task(base_model.resolve(settings, run))
  run.check_data(digests(task))
  return settings, assemble(settings, task, run)


def _keep_fitting(task, chat_format, most_tokens):
  """The task without problems whose prompts are too long, and the lengths."""
  kept, lengths = {}, []
  for split in ('train', 'test'):
    problems = getattr(task, split)
    sizes = [len(chat_format.prompt(task.prompt(p))) for p in problems]
    fits = [size <= most_tokens for size in sizes]
    kept[split] = tuple(p for p, fit in zip(problems, fits) if fit)
    lengths += [size for size, fit in zip(sizes, fits) if fit]
    if not all(fits):
      _LOGGER.warning(
        '%d of %d %s problems have prompts of more than '
        '--max-prompt-tokens=%d tokens (the longest %d) and are left out',
        len(fits) - sum(fits), len(fits), split, most_tokens, max(sizes)
      )  # fmt: skip
    if not kept[split]:
      raise run_directory.RunError(
        f'no {split} problem of {task.name} has a prompt of at most '
        f'{most_tokens} tokens: raise --max-prompt-tokens (half of them have '
        f'at most {int(np.median(sizes))})'
      )
  return dataclasses.replace(task, **kept), lengths
