"""From a run's settings to the plain values that its programs depend on."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from experiments.config import schema
from experiments.planning import programs
from experiments.run import run_directory
from score_jax.interop import hugging_face_config
from score_jax.models import attention, gemma, model_config
from score_jax.training import compiled_updates, length_buckets, sharding

# The instruction and what the template puts around it: MATH's has 70 tokens.
INSTRUCTION_TOKENS = 80
# What a run trains its own tokenizer to, where no checkpoint brings one.
_OWN_VOCABULARY = 300


@dataclasses.dataclass(frozen=True)
class Workload:
  """What is compiled.

  Attributes:
    model: as shapes.
    sizes: of an episode.
    mesh: of the update.
    rollout_mesh: the same devices for the episode.
    micro_batch: rows whose gradient is computed at once.
    update_options: further ones of `training.rl_update.make_train_step`.
    steps: of the whole run.
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
    """Devices that an update's rows are spread over."""
    return self.mesh.shape['data'] * self.mesh.shape['fsdp']


def make(settings: schema.Settings, devices: Sequence[Any]) -> Workload:
  """The workload of a run on these devices.

  Raises:
    RunError: the devices or the rows do not divide as the settings want it.
  """
  on_tpu = devices[0].platform == 'tpu'
  dtype = _dtype(settings.dtype, on_tpu)
  adapters = None
  if settings.lora.rank:
    adapters = programs.Lora(**dataclasses.asdict(settings.lora))
  model = programs.Model(
    config=_config(settings),
    adapters=adapters,
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
      block=INSTRUCTION_TOKENS,
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
      'unroll': model.config.num_layers <= compiled_updates.UNROLLED_LAYERS,
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
      'the devices that its rows are spread over (--mesh.data times '
      f'--mesh.fsdp), and divide the {settings.batch_size} rows of an update'
    )
  placed = sharding.rollout_shardings(
    workload.model.config, workload.rollout_mesh
  )
  if settings.problems_per_step % (parts := _parts(placed.rows)):
    raise run_directory.RunError(
      f'--problems-per-step={settings.problems_per_step} must be a multiple of '
      f'{parts}, the devices that rows are spread over: all samples of a '
      'problem stay on one device. Fewer, larger groups: --mesh.rollout-tensor'
    )


def _parts(rows):
  [axes] = rows.spec
  names = (axes,) if isinstance(axes, str) else axes
  parts = 1
  for name in names:
    parts *= rows.mesh.shape[name]
  return parts


def _meshes(sizes, devices):
  """The update's mesh and the rollout's."""
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
