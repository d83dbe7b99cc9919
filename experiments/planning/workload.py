"""From a run's settings to the values that its compiled programs depend on."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from experiments.config import schema
from experiments.planning import beside_steps, disk, programs
from experiments.run import base_model, layouts, run_directory
from experiments.stages import rl_stage
from score_jax import distributed
from score_jax.interop import hub, hugging_face_config
from score_jax.models import attention, gemma, model_config
from score_jax.training import sharding

# The instruction and what the template puts around it: MATH's has 70 tokens.
SEPARATOR_TOKENS = 80
# What a run trains its own tokenizer to, where no checkpoint brings one.
_OWN_VOCABULARY = 300


@dataclasses.dataclass(frozen=True)
class Workload:
  """A run's programs, before they are lowered.

  Attributes:
    model: the model, as shapes.
    sizes: sizes of an episode.
    mesh: devices of the update.
    rollout_mesh: the same devices for the episode.
    episode_options: further ones of `rollout.engine.sample_episodes`.
    micro_batch: sequences whose gradient is computed at once.
    update_options: further ones of `training.rl_update.make_train_step`.
    steps: updates of the whole run.
    beside: what the run does beside them.
    disk: that it takes.
  """

  model: programs.Model
  sizes: programs.Sizes
  mesh: jax.sharding.Mesh
  rollout_mesh: jax.sharding.Mesh
  episode_options: dict[str, int | None]
  micro_batch: int
  update_options: dict[str, Any]
  steps: int
  beside: beside_steps.BesideSteps
  disk: disk.Disk

  @property
  def batch_shards(self) -> int:
    """Devices that an update's sequences are split over."""
    return distributed.batch_shards(sharding.batch_sharding(self.mesh))

  @property
  def rows(self) -> float:
    """Sequences that a copy of the weights decodes at once."""
    own = self.sizes.batch_size / self._copies
    rows = self.episode_options['rows']
    return own if rows is None else min(rows, own)

  @property
  def at_once(self) -> float:
    """Share of all sequences that are decoded at once, at most 1."""
    return self.rows * self._copies / self.sizes.batch_size

  @property
  def _copies(self):
    return distributed.batch_shards(sharding.batch_sharding(self.rollout_mesh))


def make(settings: schema.Settings, devices: Sequence[Any]) -> Workload:
  """The workload of a run on these devices.

  Raises:
    RunError: the devices or the sequences do not divide as the settings say.
  """
  platform, config = devices[0].platform, model_of(settings)
  layout = layouts.make(settings, config, devices)
  layouts.check_batch(settings, layout)
  dtype = layout.dtype
  model = programs.Model(
    config=config,
    lora=settings.lora,
    dtype=dtype,
    frozen_dtype=(
      dtype
      if settings.reference_dtype == 'auto'
      else jnp.dtype(settings.reference_dtype)
    ),
    transposed=platform == 'cpu',
    attention=attention.default_path(platform, dtype, config.attention_softcap),
  )
  return Workload(
    model=model,
    sizes=programs.Sizes(
      problems=settings.problems_per_step,
      samples=settings.samples_per_problem,
      prompt=settings.max_prompt_tokens,
      max_new_tokens=(settings.max_attempt_tokens,) * settings.turns,
      separator=SEPARATOR_TOKENS,
    ),
    mesh=layout.mesh,
    rollout_mesh=layout.rollout_mesh,
    episode_options=layouts.rollout_options(settings, platform),
    micro_batch=settings.micro_batch_size,
    update_options=rl_stage.update_options(settings)
    | {'unroll': layout.unrolls},
    steps=settings.steps_stage1 + settings.steps_stage2,
    beside=beside_steps.count(settings),
    disk=disk.needed(settings, config),
  )


def of_evaluation(work: Workload) -> Workload:
  """The workload with the episodes of one batch of an evaluation."""
  sizes = dataclasses.replace(
    work.sizes, problems=beside_steps.EVALUATED_TOGETHER, samples=1
  )
  return dataclasses.replace(work, sizes=sizes)


def model_of(settings: schema.Settings) -> model_config.ModelConfig:
  """The model that the settings name, or describe, or a checkpoint describes.

  Raises:
    RunError: the checkpoint is not to be had, or does not describe it.
  """
  model = settings.model
  if model.name is not None:
    return gemma.CONFIGS[model.name]
  if settings.init_from is not None:
    try:
      source = hub.fetch(settings.init_from, config_only=True)
      return hugging_face_config.read(source)
    except (hub.HubError, OSError, ValueError) as error:
      raise run_directory.RunError(str(error)) from error
  return base_model.own_config(model, _OWN_VOCABULARY)
