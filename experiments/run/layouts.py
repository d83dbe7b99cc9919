"""How a run lies on its devices: which ones, mesh, batches, decoding."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax

from experiments.config import groups, schema
from experiments.run import run_directory
from score_jax import distributed
from score_jax.models import model_config
from score_jax.training import device_layout

# From so many tokens of an attempt on, decoding leaves out what has ended.
_LONG = 256

# By the first platform of JAX_PLATFORMS, which launch/with.sh sets.
_FIXES = {
  'tpu': (
    'a TPU VM shows its chips as /dev/accel* or /dev/vfio/*, and one program '
    'at a time holds them: end the other'
  ),
  'cuda': (
    'nvidia-smi must list a GPU and a driver of version 525 or newer; in a '
    'container, start it with its GPUs'
  ),
}


def devices() -> list[jax.Device]:
  """All devices of the joined processes, as `jax.devices` gives them.

  Raises:
    RunError: an accelerator that JAX_PLATFORMS names does not start; says what
      to look at, and how to go on with the CPU.
  """
  platform = (jax.config.jax_platforms or '').partition(',')[0]
  try:
    # By name: CUDA's plugin only logs that it fails, and jax then goes on to
    # the next platform.
    return jax.devices(platform or None)
  except RuntimeError as error:
    fix = _FIXES.get(platform, 'see what jax says of this platform')
    raise run_directory.RunError(
      f'no device of JAX_PLATFORMS={jax.config.jax_platforms} works here '
      f'({error}): {fix}. With JAX_PLATFORMS=cpu before the command, it '
      'computes on the CPU'
    ) from error


def make(
  settings: schema.Settings,
  config: model_config.ModelConfig,
  devices: Sequence[Any] | None = None,
) -> device_layout.Layout:
  """The layout that the settings ask for.

  Args:
    settings: of the run.
    config: the model.
    devices: None: those of this machine, or of all processes.

  Raises:
    RunError: the mesh does not divide the devices, or the adapters do not fit.
  """
  mesh, adapters = settings.mesh, None
  devices = devices or _chosen_devices(mesh)
  if settings.lora.rank:
    adapters = device_layout.Adapters(**dataclasses.asdict(settings.lora))
  try:
    return device_layout.make(
      config,
      devices,
      **dataclasses.asdict(mesh),
      dtype=device_layout.resolve_dtype(settings.dtype, devices[0].platform),
      adapters=adapters,
    )
  except ValueError as error:
    raise run_directory.RunError(
      f'{error} (--mesh.data={mesh.data}, --mesh.fsdp={mesh.fsdp}, '
      f'--mesh.tensor={mesh.tensor}, --mesh.rollout-tensor='
      f'{mesh.rollout_tensor}, --lora.rank={settings.lora.rank})'
    ) from error


def _chosen_devices(mesh: groups.Mesh) -> list[jax.Device]:
  """All devices, or, with `fsdp` given in a single process, the first ones.

  Raises:
    RunError: there are none, or they belong to several processes that were not
      joined.
  """
  found = devices()
  if jax.process_count() > distributed.count():
    raise run_directory.RunError(
      f'these devices belong to {jax.process_count()} processes, which have '
      'not found each other: add --processes.coordinator=auto'
    )
  # Several processes must use all devices; one may leave some to others.
  if mesh.fsdp != -1 and distributed.count() == 1:
    return found[: mesh.data * mesh.fsdp * mesh.tensor]
  return found


def rollout_options(
  settings: schema.Settings, platform: str
) -> dict[str, int | None]:
  """`compactions`, `segments`, `rows` of `rollout.engine.sample_episodes`.

  Args:
    settings: the run's.
    platform: of the devices: 'cpu', 'gpu' or 'tpu'.
  """
  chosen, is_long = settings.rollout, settings.max_attempt_tokens >= _LONG
  compactions, segments = chosen.compactions, chosen.segments
  if compactions is None:
    compactions = 2 if is_long else 0
  if segments is None:
    # A CPU copies the part of the cache that it reads.
    segments = 4 if is_long and platform != 'cpu' else 1
  return {
    'compactions': compactions,
    'segments': segments,
    'rows': chosen.rows,
  }


def check_batch(
  settings: schema.Settings, layout: device_layout.Layout
) -> None:
  """Compares the sizes of batches with the devices that they are split over.

  Raises:
    RunError: one is no multiple of the other.
  """
  shards = distributed.batch_shards(layout.rollout.batch)
  parts = settings.rollout.parts
  if settings.problems_per_step // parts % shards:
    over = f' over --rollout.parts={parts}' if parts > 1 else ''
    raise run_directory.RunError(
      f'--problems-per-step={settings.problems_per_step}{over} must be a '
      f'multiple of {shards}, the devices that sequences are split over: all '
      'samples of a problem stay on one device. Fewer, larger groups: '
      '--mesh.rollout-tensor'
    )
  shards = distributed.batch_shards(layout.update.batch)
  if settings.micro_batch_size % shards:
    raise run_directory.RunError(
      f'--micro-batch={settings.micro_batch_size} must be a multiple of '
      f'{shards}, the devices that its sequences are split over (--mesh.data '
      'times --mesh.fsdp)'
    )
