"""Where a run's arrays lie on its devices, for the update and for the rollout.

One device is a mesh of one: there is no other path.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from experiments.config import schema
from experiments.run import run_directory
from score_jax import distributed
from score_jax.models import inference, lora, model_config, transformer
from score_jax.training import sharding


@dataclasses.dataclass(frozen=True)
class Layout:
  """The devices of a run, and what lies where.

  Attributes:
    config: the model.
    mesh: of the update, axes data, fsdp, tensor.
    rollout_mesh: the same devices for the rollout.
    dtype: of activations, of the rollout's weights and cache.
    lora: which adapters are trained; of rank 0: all weights are.
  """

  config: model_config.ModelConfig
  mesh: jax.sharding.Mesh
  rollout_mesh: jax.sharding.Mesh
  dtype: Any
  lora: schema.LoRA = schema.LoRA()

  @functools.cached_property
  def update(self) -> sharding.ProgramShardings:
    """Of the update's arguments."""
    return sharding.ProgramShardings(
      sharding.param_shardings(self.config, self.mesh),
      sharding.batch_sharding(self.mesh),
      sharding.replicated(self.mesh),
    )

  @functools.cached_property
  def rollout(self) -> sharding.ProgramShardings:
    """Of the episode's arguments, where the policy has no adapters apart."""
    return sharding.rollout_shardings(self.config, self.rollout_mesh)

  @functools.cached_property
  def trained_shapes(self) -> Any:
    """Shapes of what an update changes: all parameters, or adapters."""
    params = jax.eval_shape(
      lambda: transformer.init_params(self.config, jax.random.key(0))
    )
    if not self.lora.rank:
      return params
    return jax.eval_shape(
      functools.partial(self.new_adapters, key=jax.random.key(0)), params
    )

  @functools.cached_property
  def trained(self) -> Any:
    """Shardings of `trained_shapes`."""
    if not self.lora.rank:
      return self.update.params
    return sharding.adapter_shardings(
      self.config, self.mesh, self.trained_shapes
    )

  def new_adapters(self, params: Any, key: jax.Array) -> Any:
    """Adapters that change nothing yet; see `lora.init_adapters`."""
    return lora.init_adapters(
      params,
      key,
      rank=self.lora.rank,
      alpha=self.lora.alpha,
      targets=self.lora.targets,
    )

  def view(self, params: Any) -> Any:
    """`inference.inference_params`, compiled; moves what lies elsewhere."""
    # The base policy has none, and in float32 the view merges them.
    is_adapted = self.dtype != jnp.float32 and lora.adapters_of(params)
    return (self._view_of_adapted if is_adapted else self._view_of_weights)(
      params
    )

  @functools.cached_property
  def _view_of_weights(self) -> Callable[[Any], Any]:
    return self._make_view(self.rollout.params)

  @functools.cached_property
  def _view_of_adapted(self) -> Callable[[Any], Any]:
    placement = sharding.rollout_shardings(
      self.config, self.rollout_mesh, self.trained_shapes
    )
    return self._make_view(placement.params)

  def _make_view(self, shardings: Any) -> Callable[[Any], Any]:
    return jax.jit(
      functools.partial(inference.inference_params, dtype=self.dtype),
      out_shardings=shardings,
    )

  def put_batch(self, tree: Any) -> Any:
    """Arrays with an entry for each row, as the update has them."""
    return distributed.put_batch(tree, self.update.batch)


def make(settings: schema.Settings, config: model_config.ModelConfig) -> Layout:
  """The layout that the settings ask for, on the devices that there are.

  Raises:
    RunError: the devices or the rows of an update do not divide.
  """
  mesh = make_mesh(settings.mesh)
  rollout_mesh, tensor = mesh, settings.mesh.rollout_tensor
  if tensor is not None:
    try:
      rollout_mesh = sharding.rollout_mesh(mesh, tensor)
    except ValueError as error:
      raise run_directory.RunError(f'--mesh.rollout-tensor: {error}') from error
  dtype = resolve_dtype(settings.dtype)
  layout = Layout(config, mesh, rollout_mesh, dtype, settings.lora)
  try:
    _ = layout.trained_shapes
  except ValueError as error:
    raise run_directory.RunError(f'--lora: {error}') from error
  parts = distributed.batch_shards(layout.rollout.batch)
  if settings.problems_per_step % parts:
    raise run_directory.RunError(
      f'--problems-per-step={settings.problems_per_step} must be a multiple of '
      f'{parts}, the devices that rows are spread over: all samples of a '
      'problem stay on one device'
    )
  micro = settings.micro_batch_size
  parts = distributed.batch_shards(layout.update.batch)
  if micro % parts:
    raise run_directory.RunError(
      f'--micro-batch={micro} must be a multiple of {parts}, the devices that '
      'its rows are spread over (--mesh.data times --mesh.fsdp)'
    )
  return layout


def make_mesh(sizes: schema.Mesh) -> jax.sharding.Mesh:
  """A mesh of all devices, or, with `fsdp` given, of the first ones.

  Raises:
    RunError: there are not as many, or several processes would not all have a
      part in it.
  """
  devices = jax.devices()
  if jax.process_count() > distributed.count():
    raise run_directory.RunError(
      f'these devices belong to {jax.process_count()} processes, which have '
      'not found each other: add --processes.coordinator=auto'
    )
  fsdp = sizes.fsdp
  if fsdp == -1:
    fsdp = max(1, len(devices) // (sizes.data * sizes.tensor))
  elif distributed.count() == 1:
    devices = devices[: sizes.data * fsdp * sizes.tensor]
  try:
    return sharding.make_mesh(devices, sizes.data, fsdp, sizes.tensor)
  except ValueError as error:
    raise run_directory.RunError(str(error)) from error


def resolve_dtype(name: str) -> Any:
  """What a dtype setting means here; accelerators compute in bfloat16."""
  if name == 'auto':
    name = 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'
  return jnp.dtype(name)
