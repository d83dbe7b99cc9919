"""The base policy of a model that starts from nothing."""

from collections.abc import Callable, Sequence
import contextlib
import functools
from typing import Any

import jax
import numpy as np
import optax
from rich import console as rich_console

from experiments.config import schema
from experiments.run import building, progress, run_directory
from score_jax import distributed, types
from score_jax.algorithm import masked
from score_jax.io import metric_log, stop_signals
from score_jax.models import model_config, transformer
from score_jax.rollout import engine, episodes, randomness, turn_separator
from score_jax.tasks import arithmetic, batches
from score_jax.training import (
  checkpointing,
  optimizers,
  sft_update,
  sharding,
  train_state,
)

_LOG_EVERY = 10
_CHECKPOINT_EVERY = 200
_WARMUP = 100


def pretrain(
  settings: schema.Settings,
  parts: building.Parts,
  directory: run_directory.StageDirectory,
  console: rich_console.Console,
  stop: stop_signals.StopRequest,
) -> Any:
  """Trains the base policy, or goes on with it, and returns its parameters.

  The arithmetic task has examples of its own; any other task's are its
  reference answers, given in every turn.
  """
  steps = settings.pretrain.steps
  optimizer, train_step = _make_update(
    parts.config, parts.layout.mesh, settings.pretrain.learning_rate, steps
  )
  key = randomness.stream(settings.seed, 'init', 'base', 0)
  params = transformer.init_params(parts.config, key)
  state = train_state.init_state(
    jax.tree.map(distributed.put, params, parts.layout.update.params), optimizer
  )
  with checkpointing.Checkpoints(directory.checkpoints) as checkpoints:
    restored = checkpoints.restore(state)
    state = restored.state if restored else state
    if not (restored or steps):
      checkpoints.save(0, state)
    first = int(state.step)
    with (
      contextlib.closing(metric_log.MetricsLog(directory, first)) as log,
      progress.stage(
        console, directory.name, steps, done=first, every=100
      ) as shown,
    ):
      for step in range(first, steps):
        rows, loss_mask = _examples(settings, parts, step)
        rows, loss_mask = parts.layout.put_batch((rows, loss_mask))
        state, metrics = train_step(state, rows, loss_mask)
        done = step + 1
        if done % _LOG_EVERY == 0 or done == steps:
          values = masked.means(metrics)
          log.write(done, values)
          shown.update(done, values)
        if done % _CHECKPOINT_EVERY == 0 or done == steps or stop.is_requested:
          checkpoints.save(done, state)
        if stop.is_requested:
          break
  if int(state.step) == steps:
    directory.mark_finished(steps)
  return state.params


@functools.cache
def _make_update(
  config: model_config.ModelConfig,
  mesh: jax.sharding.Mesh,
  learning_rate: float,
  steps: int,
) -> tuple[optax.GradientTransformation, Callable[..., Any]]:
  """Adam with a warmed-up cosine schedule, and the compiled update.

  Cached, because jit compiles once for each function object.
  """
  schedule = optax.warmup_cosine_decay_schedule(
    0.0,
    learning_rate,
    min(_WARMUP, steps // 2),
    max(steps, 1),
    learning_rate / 20,
  )
  optimizer = optimizers.make_optimizer(schedule)
  shapes = jax.eval_shape(
    lambda: transformer.init_params(config, jax.random.key(0))
  )
  shardings = train_state.state_shardings(
    optimizer, shapes, sharding.param_shardings(config, mesh)
  )
  return optimizer, sft_update.make_supervised_step(
    config, optimizer, shardings=shardings
  )


def _examples(settings, parts, step):
  """Rows of one step and the loss mask of their attempts, bool [B, K]."""
  messages, attempts, loss_mask = _texts(settings, parts.task, step)
  sampler = parts.sampler
  separators = turn_separator.make_separators(
    sampler.chat_format, [parts.task.instruction] * (settings.turns - 1)
  )
  length = engine.sequence_length(
    sampler.buckets[-1], sampler.max_new_tokens, separators.longest
  )
  rows = episodes.pack_sequences(
    sampler.chat_format,
    messages,
    attempts,
    [parts.task.instruction] * (settings.turns - 1),
    length,
    max_new_tokens=sampler.max_new_tokens,
  )
  return rows, loss_mask


def _texts(
  settings: schema.Settings, task: types.Task, step: int
) -> tuple[list[str], list[Sequence[str]], np.ndarray]:
  rows, turns = settings.pretrain.rows, settings.turns
  if task.name != arithmetic.NAME:
    indices = batches.batch_indices(
      len(task.train), rows, seed=settings.seed, step=step
    )
    problems = [task.train[i] for i in indices]
    answers = [(problem.reference,) * turns for problem in problems]
    loss_mask = np.ones((rows, turns), bool)
    return [task.prompt(p) for p in problems], answers, loss_mask
  examples = arithmetic.pretraining_examples(
    np.random.default_rng((settings.seed, 3, step)),
    rows,
    digits=settings.arithmetic.digits,
    copy_hard=settings.pretrain.copy_share,
    easy_chain=settings.pretrain.easy_nines,
    easy_right=settings.pretrain.easy_right,
    held_out=frozenset(problem.id for problem in task.test),
  )
  questions, firsts, seconds, first_in_loss = zip(*examples, strict=True)
  attempts = [(a, *[b] * (turns - 1)) for a, b in zip(firsts, seconds)]
  loss_mask = np.ones((rows, turns), bool)
  loss_mask[:, 0] = first_in_loss
  return list(questions), attempts, loss_mask
