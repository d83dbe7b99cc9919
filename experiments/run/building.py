"""From settings to a run: task, tokenizer, model, layout, sampler, graders."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import hashlib
import logging
import pathlib
from typing import Any

import jax
import numpy as np
from rich import console as rich_console

from experiments import forking, methods
from experiments.config import groups, schema
from experiments.run import (
  base_model,
  compilation_cache,
  context,
  damage,
  layouts,
  processes,
  run_directory,
)
from score_jax import distributed, types
from score_jax.grading import user_rewards
from score_jax.grading.sandbox import probe
from score_jax.io import stop_signals
from score_jax.models import chat
from score_jax.rollout import episodes, prompt_buckets
from score_jax.tasks import aiming, arithmetic, registry

_LOGGER = logging.getLogger(__name__)
_DIGITS = 16  # of a digest


def start(
  settings: schema.Settings,
  directory: run_directory.RunDirectory,
  console: rich_console.Console | None = None,
  stop: stop_signals.StopRequest | None = None,
) -> context.Run:
  """Begins a run in a locked directory, or continues the one in it.

  Raises:
    RunError: data, checkpoint, devices or directory do not fit the settings.
  """
  forking.begin(settings, directory)
  task = load_task(base_model.resolve(settings, directory))
  if settings.eval_every and not task.validation:
    raise run_directory.RunError(
      f'--eval-every={settings.eval_every}: of {len(task.train)} training '
      'problems a tenth is none to measure on; bring more, or leave it out'
    )
  directory.begin(settings, digests(task) | _reward_digests(settings))
  steps = {name: s.steps for name, s in methods.stages(settings).items()}
  steps[methods.BASE] = settings.pretrain.steps
  damage.check_trained(directory, steps)
  return build(settings, task, directory, console, stop)


def reopen(
  directory: run_directory.RunDirectory,
  console: rich_console.Console | None = None,
  *,
  dtype: str | None = None,
  on_one_device: bool = False,
) -> context.Run:
  """Opens an existing run with its own settings; changes nothing on disk.

  Args:
    directory: the run's.
    console: for people; None: a silent one.
    dtype: replaces --dtype, if given.
    on_one_device: replaces --mesh.

  Raises:
    RunError: there is no such run, or its data differ now.
  """
  settings = directory.read_settings()
  if dtype:
    settings = dataclasses.replace(settings, dtype=dtype)
  if on_one_device:
    settings = dataclasses.replace(settings, mesh=groups.Mesh(fsdp=1))
  if not directory.tokenizer.exists():
    raise run_directory.RunError(
      f'there is no {directory.shown(directory.tokenizer)}; go on with it: '
      f'python -m experiments.train --preset={settings.preset} '
      f'--run-dir={directory}'
    )
  damage.check(directory)
  task = load_task(base_model.resolve(settings, directory))
  directory.check_data(digests(task))
  return build(settings, task, directory, console)


def build(
  settings: schema.Settings,
  task: types.Task,
  directory: run_directory.RunDirectory,
  console: rich_console.Console | None = None,
  stop: stop_signals.StopRequest | None = None,
) -> context.Run:
  """Builds the run of a task; trains a tokenizer if the directory has none.

  Args:
    settings: the run's.
    task: its task; problems with too long prompts are left out.
    directory: the run's.
    console: for people; None: a silent one.
    stop: the request to stop; None: one that no signal makes.
  """
  compilation_cache.use(settings.compilation_cache, str(directory.compiled))
  config, chat_format = base_model.load(settings, task, directory)
  layout = layouts.make(settings, config)
  layouts.check_batch(settings, layout)
  task, lengths = _keep_fitting(task, chat_format, settings.max_prompt_tokens)
  return context.Run(
    settings,
    directory,
    config,
    chat_format,
    layout,
    task,
    episodes.EpisodeSampler(
      config=layout.config,
      chat_format=chat_format,
      task=task,
      max_new_tokens=(settings.max_attempt_tokens,) * settings.turns,
      buckets=prompt_buckets.choose_buckets(
        lengths, batch_size=settings.problems_per_step
      ),
      dtype=layout.activation_dtype,
      sharding=layout.rollout.batch,
      **layouts.rollout_options(settings, jax.default_backend()),
    ),
    console or rich_console.Console(quiet=True),
    stop or stop_signals.StopRequest(),
  )


@contextlib.contextmanager
def with_grader(run: context.Run) -> Iterator[context.Run]:
  """The run with its graders started, until the block ends. A collective.

  Raises:
    RunError: graders cannot work here: no sandbox holds, or a reward function
      is missing, or asks for columns that a problem does not have.
  """
  with contextlib.closing(_start_grader(run)) as grader:
    if run.settings.reward:
      _check_columns(run, grader)
    with run.stop.calling(lambda: user_rewards.interrupt(grader)):
      yield dataclasses.replace(run, grader=grader)


def _start_grader(run: context.Run) -> types.Grader:
  # A failure in one process must end all: the others would wait for it.
  def start():
    try:
      return run.task.make_grader()
    except (OSError, ValueError, probe.NoSandboxError) as error:
      raise run_directory.RunError(
        f'{error} (see --reward, --correct-from-reward, --sandbox, --workers)'
      ) from error

  return distributed.everywhere(start)


def _check_columns(run: context.Run, grader: user_rewards.RewardGrader) -> None:
  """Rejects a reward function that asks for what a problem does not have.

  Any problem: in training it would end the run at the step that comes to it.

  Raises:
    RunError: it asks for columns that a problem lacks.
  """
  try:
    for split in types.SPLITS:
      for problem in getattr(run.task, split):
        grader.check(problem)
  except ValueError as error:
    raise run_directory.RunError(f'{error} (see --reward)') from error


def load_task(settings: schema.Settings) -> types.Task:
  """The task of the settings. A collective.

  Raises:
    RunError: its data are missing, unreadable or too few, or the processes do
      not have the same.
  """
  task = distributed.everywhere(lambda: _load_task(settings))
  processes.check_same(
    digests(task), 'these are digests of problems: give all the same data'
  )
  return task


def _load_task(settings):
  data = settings.data
  try:
    return registry.load_task(
      settings.task,
      data_dir=settings.data_dir,
      chat=settings.chat_style == 'gemma',
      first_prompt=settings.first_prompt,
      instruction=settings.instruction,
      stop_texts=settings.stop,
      shots=settings.shots,
      rewards=settings.reward,
      correct_from=settings.correct_from_reward,
      reward_timeout=settings.reward_timeout,
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
      num_validation=settings.validation_problems,
      drop_near_duplicates=data.drop_near_duplicates,
      options=_generated_options(settings),
    )
  except (ImportError, OSError, ValueError) as error:
    raise run_directory.RunError(
      f'{error} (see --task, --data-dir, --data.*, --reward, '
      '--correct-from-reward, --arithmetic.*, --aiming.*)'
    ) from error


def _generated_options(settings: schema.Settings) -> dict[str, Any]:
  """Options of a task that makes its own problems and examples."""
  pretrain = settings.pretrain
  # At least 2,000, so that fewer --eval-problems change no training problem.
  num_test = max(2000, settings.eval_problems)
  if settings.task == arithmetic.NAME:
    return {
      'digits': settings.arithmetic.digits,
      'chain': settings.arithmetic.nines,
      'copy_hard': pretrain.copy_share,
      'easy_chain': pretrain.easy_nines,
      'easy_right': pretrain.easy_right,
      'num_test': num_test,
    }
  if settings.task == aiming.NAME:
    return {
      'moves': settings.aiming.moves,
      'modulus': settings.aiming.modulus,
      'copy_share': pretrain.copy_share,
      'redraw_share': pretrain.redraw_share,
      'num_test': num_test,
    }
  return {}


def digests(task: types.Task) -> dict[str, str]:
  """Digests of ids, questions and references, by split."""
  return {
    split: _digest(problems)
    for split in types.SPLITS
    if (problems := getattr(task, split))
  }


def _reward_digests(settings: schema.Settings) -> dict[str, str]:
  """Digests of the files of --reward, which only training asks for."""
  found = {}
  for reward in settings.reward:
    path, _, _ = user_rewards.split_weight(reward)[0].rpartition(':')
    file = pathlib.Path(path).expanduser()
    # Where there is none, the grader says so.
    if file.is_file():
      found[f'reward {path}'] = hashlib.sha256(file.read_bytes()).hexdigest()[
        :_DIGITS
      ]
  return found


def _digest(problems: Sequence[types.Problem]) -> str:
  total = hashlib.sha256()
  for problem in problems:
    fields = (problem.id, problem.question, problem.reference)
    total.update('\0'.join(fields).encode() + b'\n')
  return total.hexdigest()[:_DIGITS]


def _keep_fitting(
  task: types.Task, chat_format: chat.ChatFormat, most_tokens: int
) -> tuple[types.Task, list[int]]:
  """The task without too long prompts, and the others' lengths in tokens."""
  kept, lengths = {}, []
  for split in types.SPLITS:
    problems = getattr(task, split)
    if not problems and split == 'validation':
      continue
    # Not truncated: half a question would be another problem.
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
    if not problems:
      raise run_directory.RunError(f'{task.name} has no {split} problems')
    if not kept[split]:
      raise run_directory.RunError(
        f'no {split} problem of {task.name} has a prompt of at most '
        f'{most_tokens} tokens: raise --max-prompt-tokens (half of them have '
        f'at most {int(np.median(sizes))})'
      )
  return dataclasses.replace(task, **kept), lengths
