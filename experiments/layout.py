"""Where a run's arrays lie on its devices, for the update and for the rollout.

One device is a mesh of one: there is no other path.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from experiments import run_directory
from experiments import settings as settings_lib
from score_jax import processes
from score_jax.models import config as model_config
from score_jax.rollout import engine
from score_jax.training import sharding


@dataclasses.dataclass(frozen=True)
class Layout:
  """The devices of a run, and what lies where.

  Attributes:
    config: the model.
    mesh: of the update, axes data, fsdp, tensor.
    rollout_mesh: the same devices for the rollout.
    dtype: of activations, of the rollout's weights and cache.
  """

  config: model_config.ModelConfig
  mesh: jax.sharding.Mesh
  rollout_mesh: jax.sharding.Mesh
  dtype: Any

  @functools.cached_property
  def update(self) -> sharding.Placement:
    """Of the update's arguments."""
    return sharding.Placement(
      sharding.param_shardings(self.config, self.mesh),
      sharding.batch_sharding(self.mesh),
      sharding.replicated(self.mesh),
    )

  @functools.cached_property
  def rollout(self) -> sharding.Placement:
    """Of the episode's arguments."""
    return sharding.rollout_shardings(self.config, self.rollout_mesh)

  @functools.cached_property
  def view(self) -> Callable[[Any], Any]:
    """`engine.rollout_view`, compiled: it also moves what lies elsewhere."""
    return jax.jit(
      functools.partial(engine.rollout_view, dtype=self.dtype),
      out_shardings=self.rollout.params,
    )

  def put_rows(self, tree: Any) -> Any:
    """Arrays with an entry for each row, as the update has them."""
    return processes.put_rows(tree, self.update.rows)


def make(
  settings: settings_lib.Settings, config: model_config.ModelConfig
) -> Layout:
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
  layout = Layout(config, mesh, rollout_mesh, resolve_dtype(settings.dtype))
  parts = processes.row_parts(layout.rollout.rows)
  if settings.problems_per_step % parts:
    raise run_directory.RunError(
      f'--problems-per-step={settings.problems_per_step} must be a multiple of '
      f'{parts}, the devices that rows are spread over: all samples of a '
      'problem stay on one device'
    )
  micro = settings.micro_batch or settings.rows
  parts = processes.row_parts(layout.update.rows)
  if micro % parts:
    raise run_directory.RunError(
      f'--micro-batch={micro} must be a multiple of {parts}, the devices that '
      'its rows are spread over (--mesh.data times --mesh.fsdp)'
    )
  return layout


def make_mesh(sizes: settings_lib.Mesh) -> jax.sharding.Mesh:
  """A mesh of all devices, or, with `fsdp` given, of the first ones.

  Raises:
    RunError: there are not as many, or several processes would not all have a
      part in it.
  """
  devices = jax.devices()
  if jax.process_count() > processes.count():
    raise run_directory.RunError(
      f'these devices belong to {jax.process_count()} processes, which have '
      'not found each other: add --processes.coordinator=auto'
    )
  fsdp = sizes.fsdp
  if fsdp == -1:
    fsdp = max(1, len(devices) // (sizes.data * sizes.tensor))
  elif processes.count() == 1:
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
