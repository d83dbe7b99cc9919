"""The base policy: read from a checkpoint, restored, or pre-trained."""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import methods
from experiments.run import base_model, context, outcome, policies
from experiments.stages import intervals, stage_loop, stage_recorder
from score_jax import arrays, distributed
from score_jax.models import transformer
from score_jax.rollout import episodes, randomness, turn_separator
from score_jax.tasks import batches
from score_jax.training import optimizers, sft_update, train_state

# Updates until the learning rate is at its largest, and what is left of it at
# the end.
_WARMUP, _LAST_SHARE = 100, 1 / 20
# Updates between measurements for --pretrain.until-accuracy.
_MEASURED_EVERY = 50
_INTERVALS = intervals.Intervals(log=10, show=100, checkpoint=200)


def base_policy(run: context.Run) -> Any:
  """Parameters of the base policy; pre-trains one where the run has none."""
  source = run.settings.init_from
  if source is not None:
    base_model.note_source(run.settings, run.directory)
    run.console.print(f'base: reading {source}', markup=False, soft_wrap=True)
  if policies.has_base(run.directory):
    return policies.stage_policy(run, methods.BASE)
  return _pretrain(run)


def _pretrain(run: context.Run) -> Any:
  """Pre-trains the base policy, or continues to, and returns its parameters.

  On the examples that the task makes; where it makes none, every attempt of an
  example is the reference answer.
  """
  settings = run.settings.pretrain
  # Whatever --dtype says: weights made from nothing are made in float32.
  layout = dataclasses.replace(
    run.layout.without_adapters(),
    config=run.config,
    dtype=jnp.dtype(jnp.float32),
  )
  optimizer = optimizers.make_optimizer(
    optimizers.make_schedule(
      settings.learning_rate,
      'cosine',
      warmup=min(_WARMUP, settings.steps // 2),
      updates=settings.steps,
      last_share=_LAST_SHARE,
    )
  )
  update = sft_update.make_update(layout, optimizer)
  key = randomness.stream(run.settings.seed, 'init', 'base', 0)
  params = transformer.init_params(run.config, key)
  # Sharded before the optimizer sees them, so that its moments are as well.
  state = train_state.init_state(
    jax.tree.map(distributed.put, params, layout.trained), optimizer
  )

  if settings.until_accuracy and settings.least_steps >= settings.steps:
    run.console.print(
      f'{methods.BASE}: --pretrain.until-accuracy={settings.until_accuracy:g} '
      f'is not measured before --pretrain.least-steps={settings.least_steps}: '
      f'all {settings.steps} updates are made.',
      highlight=False,
    )

  def step(state, policy, number, recorder):
    del policy, recorder
    sequences, loss_mask = layout.put_batch(_examples(run, number))
    state, metrics = update(state, sequences, loss_mask)
    return state, stage_recorder.StepReport(sequences, metrics)

  return stage_loop.train(
    run,
    methods.BASE,
    settings.steps,
    state,
    step,
    is_done=functools.partial(_is_accurate, run),
    intervals=_INTERVALS,
  )


def _is_accurate(run: context.Run, number: int, policy: Any) -> bool:
  """Whether --pretrain.until-accuracy is reached after `number` updates."""
  settings = run.settings.pretrain
  wanted = settings.until_accuracy
  is_due = number >= max(1, settings.least_steps)
  if wanted is None or not is_due or number % _MEASURED_EVERY:
    return False
  # Of fewer than ten training problems none is held out.
  if not run.task.validation:
    return False
  evaluation = outcome.evaluate_policy(run, policy, split='validation')
  reached = evaluation.correct()[:, 0].mean()
  run.console.print(
    f'{methods.BASE}: {reached:.1%} of the validation problems at the first '
    f'attempt after {number} updates.',
    highlight=False,
  )
  return reached >= wanted


def _examples(
  run: context.Run, step: int
) -> tuple[arrays.Trajectory, np.ndarray]:
  """Sequences [B, T] of one step, and their loss mask, bool [B, K]."""
  messages, attempts, loss_mask = _texts(run, step)
  sampler = run.sampler
  instructions = [run.task.instruction] * (run.settings.turns - 1)
  separators = turn_separator.make_separators(run.chat_format, instructions)
  # Every step has the longest possible length: one compiled update for all.
  length = turn_separator.sequence_length(
    sampler.buckets[-1], sampler.max_new_tokens, separators.longest
  )
  sequences = episodes.pack_sequences(
    run.chat_format,
    messages,
    attempts,
    instructions,
    length,
    max_new_tokens=sampler.max_new_tokens,
  )
  return sequences, loss_mask


def _texts(
  run: context.Run, step: int
) -> tuple[list[str], list[Sequence[str]], np.ndarray]:
  """First messages [B], attempts [B][K] and loss mask, bool [B, K]."""
  settings, task = run.settings, run.task
  count, turns = settings.pretrain.rows, settings.turns
  loss_mask = np.ones((count, turns), bool)
  if task.pretraining_examples is None:
    problems = batches.batch(task.train, count, settings.seed, step)
    answers = [(problem.reference,) * turns for problem in problems]
    return [task.prompt(p) for p in problems], answers, loss_mask
  rng = np.random.default_rng((settings.seed, 3, step))
  examples = task.pretraining_examples(rng, count)
  loss_mask[:, 0] = [e.first_in_loss for e in examples]
  attempts = [(e.first, *[e.second] * (turns - 1)) for e in examples]
  return [e.message for e in examples], attempts, loss_mask
