"""From a run's settings to the values that its compiled programs depend on."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from experiments.config import schema
from experiments.planning import programs
from experiments.run import run_directory
from score_jax import distributed
from score_jax.interop import hugging_face_config
from score_jax.models import attention, gemma, model_config
from score_jax.training import device_layout, length_buckets, sharding

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
    micro_batch: sequences whose gradient is computed at once.
    update_options: further ones of `training.rl_update.make_train_step`.
    steps: updates of the whole run.
  """

  model: programs.Model
  sizes: programs.Sizes
  mesh: jax.sharding.Mesh
  rollout_mesh: jax.sharding.Mesh
  micro_batch: int
  update_options: dict[str, Any]
  steps: int

  @property
  def batch_shards(self) -> int:
    """Devices that an update's sequences are split over."""
    return distributed.batch_shards(sharding.batch_sharding(self.mesh))


def make(settings: schema.Settings, devices: Sequence[Any]) -> Workload:
  """The workload of a run on these devices.

  Raises:
    RunError: the devices or the sequences do not divide as the settings say.
  """
  on_tpu = devices[0].platform == 'tpu'
  dtype = _dtype(settings.dtype, on_tpu)
  model = programs.Model(
    config=_config(settings),
    lora=settings.lora,
    dtype=dtype,
    frozen_dtype=(
      dtype
      if settings.reference_dtype == 'auto'
      else jnp.dtype(settings.reference_dtype)
    ),
    transposed=not on_tpu,
  )
  mesh, rollout_mesh = _meshes(settings.mesh, devices)
  workload = Workload(
    model=model,
    sizes=programs.Sizes(
      problems=settings.problems_per_step,
      samples=settings.samples_per_problem,
      prompt=settings.max_prompt_tokens,
      max_new_tokens=(settings.max_attempt_tokens,) * settings.turns,
      separator=SEPARATOR_TOKENS,
    ),
    mesh=mesh,
    rollout_mesh=rollout_mesh,
    micro_batch=settings.micro_batch_size,
    update_options={
      'attention': attention.default_path(
        'tpu' if on_tpu else 'cpu', dtype, model.config.attention_softcap
      ),
      'kl': settings.kl,
      'temperature': settings.temperature,
      'attempt_tokens': settings.attempt_tokens,
      'length_buckets': settings.length_buckets
      or length_buckets.default_count(settings.attempt_tokens),
      'unroll': model.config.num_layers <= device_layout.UNROLLED_LAYERS,
      'remat': settings.remat,
    },
    steps=settings.steps_stage1 + settings.steps_stage2,
  )
  _check(workload, settings)
  return workload


def _check(workload, settings):
  parts = workload.batch_shards
  if workload.micro_batch % parts or settings.batch_size % workload.micro_batch:
    raise run_directory.RunError(
      f'--micro-batch={workload.micro_batch} must be a multiple of {parts}, '
      'the devices that its sequences are split over (--mesh.data times '
      f'--mesh.fsdp), and divide the {settings.batch_size} of an update'
    )
  shardings = workload.model.rollout_shardings(workload.rollout_mesh)
  parts = distributed.batch_shards(shardings.batch)
  if settings.problems_per_step % parts:
    raise run_directory.RunError(
      f'--problems-per-step={settings.problems_per_step} must be a multiple of '
      f'{parts}, the devices that sequences are split over: all samples of a '
      'problem stay on one device. Fewer, larger groups: --mesh.rollout-tensor'
    )


def _meshes(sizes, devices):
  """Meshes of the update and of the rollout."""
  fsdp = sizes.fsdp
  if fsdp == -1:
    fsdp = max(1, len(devices) // (sizes.data * sizes.tensor))
  try:
    mesh = sharding.make_mesh(devices, sizes.data, fsdp, sizes.tensor)
    if sizes.rollout_tensor is None:
      return mesh, mesh
    return mesh, sharding.rollout_mesh(mesh, sizes.rollout_tensor)
  except ValueError as error:
    raise run_directory.RunError(str(error)) from error


def _config(settings) -> model_config.ModelConfig:
  model = settings.model
  if model.name is not None:
    return gemma.CONFIGS[model.name]
  if settings.init_from is not None:
    try:
      return hugging_face_config.read(settings.init_from)
    except (OSError, ValueError) as error:
      raise run_directory.RunError(str(error)) from error
  return model_config.ModelConfig(
    vocab_size=_OWN_VOCABULARY,
    width=model.width,
    num_layers=model.layers,
    num_heads=model.heads,
    num_kv_heads=model.kv_heads,
    head_dim=model.head_dim,
    mlp_width=model.ffw,
    global_rope_base=model.rope_base,
  )


def _dtype(name, on_tpu):
  if name == 'auto':
    name = 'bfloat16' if on_tpu else 'float32'
  return jnp.dtype(name)
