"""Steps on disk: written by Orbax, read back only as what they were.

The mechanism below checkpoints.py, which decides what to keep and what to
restore. Several processes call each method alike and in the same order.
"""

from collections.abc import Mapping
import gc
import logging
import sys
from typing import Any

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp

from score_jax import distributed
from score_jax.training import checkpoint_manifest

_LOGGER = logging.getLogger(__name__)
_DAMAGED = '.damaged-'
_UNFINISHED = '.orbax-checkpoint-tmp'


class Store:
  """A directory with one subdirectory a step: leaves and their manifest."""

  def __init__(
    self, directory: epath.PathLike, *, is_async: bool, read_only: bool
  ):
    """Opens a directory; a writer makes it, and clears unfinished saves away.

    Args:
      directory: where.
      is_async: write in the background.
      read_only: neither write, nor remove, nor rename.
    """
    self.directory = epath.Path(directory).resolve()
    self._read_only = read_only
    if not read_only:
      self.directory.mkdir(parents=True, exist_ok=True)
      self._remove_unfinished()
    self._manager = ocp.CheckpointManager(
      self.directory,
      options=ocp.CheckpointManagerOptions(
        create=not read_only,
        max_to_keep=None,
        enable_async_checkpointing=is_async,
      ),
    )

  def steps(self) -> list[int]:
    """Steps that are there, ascending, intact or not; the same everywhere."""
    return distributed.agree(
      sorted(self._manager.all_steps()) if self.directory.exists() else []
    )

  def has_traces(self) -> bool:
    """Whether anything was ever saved here, damaged or not."""
    return bool(self.steps()) or distributed.agree(
      self.directory.exists()
      and any(_DAMAGED in path.name for path in self.directory.iterdir())
    )

  def write(
    self, step: int, leaves: Mapping[str, Any], manifest: Mapping[str, Any]
  ) -> None:
    """Writes a step, or begins to; `wait` says whether it is there."""
    if self._read_only:
      raise ValueError(f'{self.directory} was opened read_only')
    self._manager.save(
      step,
      args=ocp.args.Composite(
        # Not StandardSave, whose restore takes all leaves or none.
        state=ocp.args.PyTreeSave(dict(leaves)),
        manifest=ocp.args.JsonSave(dict(manifest)),
      ),
      force=True,
    )

  def wait(self, step: int) -> None:
    """Waits until a step is written, and raises what went wrong.

    Raises:
      DamagedError: Orbax saw no error, but the step is not there.
    """
    self._manager.wait_until_finished()
    self._manager.check_for_errors()
    if step not in self.steps():
      raise checkpoint_manifest.DamagedError(
        f'step {step} is missing in {self.directory} after it was written'
      )

  def manifest(self, step: int) -> dict[str, Any]:
    """What a step says about itself.

    Raises:
      DamagedError: it cannot be read, or is not what was written.
    """
    manifest = self._load(step, manifest=ocp.args.JsonRestore())
    checkpoint_manifest.check(manifest)
    return manifest

  def leaves(
    self,
    step: int,
    manifest: Mapping[str, Any],
    targets: Mapping[str, Any] | None = None,
  ) -> dict[str, Any]:
    """Verified leaves: as the targets ask, or all of them as numpy arrays.

    Raises:
      DamagedError: they cannot be read, or are not what was written.
    """
    if targets is None:
      item = dict.fromkeys(manifest['leaves'], 0)
      arguments = {k: ocp.RestoreArgs(restore_type=np.ndarray) for k in item}
    else:
      item = {key: _abstract(leaf) for key, leaf in targets.items()}
      arguments = ocp.checkpoint_utils.construct_restore_args(item)
    leaves = self._load(
      step,
      state=ocp.args.PyTreeRestore(
        item=item, restore_args=arguments, partial_restore=True
      ),
    )
    checkpoint_manifest.check_leaves(manifest, leaves)
    return leaves

  def set_aside(self, step: int, error: Exception) -> None:
    """Names a damaged step and moves it out of the way, never deletes it."""
    source = self.directory / str(step)
    if self._read_only:
      _LOGGER.error('SKIPPED damaged checkpoint %s: %s', source, error)
      return
    number = 1
    while (target := self._aside(step, number)).exists():
      number += 1
    _LOGGER.error(
      'SKIPPED damaged checkpoint %s, now %s: %s', source, target.name, error
    )
    distributed.barrier()
    if distributed.is_first():
      source.rename(target)
    distributed.barrier()
    self._manager.reload()

  def delete(self, step: int) -> None:
    """Deletes a step."""
    self._manager.delete(step)

  def close(self) -> None:
    """Lets Orbax's threads go."""
    self._manager.close()

  def _aside(self, step: int, number: int) -> epath.Path:
    return self.directory / f'{step}{_DAMAGED}{number}'

  def _load(self, step: int, **item: Any) -> Any:
    """One item of a step, by name and arguments."""
    [name] = item
    loaded = reason = None
    try:
      restored = self._manager.restore(step, args=ocp.args.Composite(**item))
      loaded = restored[name]
    except Exception as error:
      # Orbax, tensorstore and json have no common exception for bad bytes.
      reason = _first_line(error)
    if reason:
      _drop_leftovers()
    if not distributed.all_of(reason is None):
      raise checkpoint_manifest.DamagedError(
        f'its {name} cannot be read: {reason or "another process failed"}'
      )
    return loaded

  def _remove_unfinished(self) -> None:
    if distributed.is_first():
      for path in self.directory.iterdir():
        if _UNFINISHED in path.name:
          _LOGGER.warning('removing the unfinished checkpoint %s', path)
          path.rmtree()
    distributed.barrier()


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
  sharding = getattr(leaf, 'sharding', None)
  if sharding is None:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _first_line(error: BaseException) -> str:
  text = str(error).strip().partition('\n')[0]
  return f'{type(error).__name__}: {text[:200]}'


def _drop_leftovers() -> None:
  """Collects what a failed read leaves behind, in silence.

  Orbax reads all leaves at once and raises the first failure; the others'
  tasks would complain, a page each, whenever they happen to be collected.
  """
  logger = logging.getLogger('asyncio')
  level, hook = logger.level, sys.unraisablehook
  logger.setLevel(logging.CRITICAL + 1)
  sys.unraisablehook = lambda _: None
  try:
    gc.collect()
  finally:
    logger.setLevel(level)
    sys.unraisablehook = hook
