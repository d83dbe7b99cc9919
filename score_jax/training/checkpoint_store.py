"""Steps on disk: written by Orbax, verified whenever they are read.

The mechanism below checkpointing.py, which decides what to keep and what to
restore. Every method but `close` is a collective: call it in every process.
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
  """A directory with a subdirectory for each step: leaves and a manifest."""

  def __init__(
    self, directory: epath.PathLike, *, is_async: bool, read_only: bool
  ):
    """Opens a directory; a writer creates it and removes unfinished saves.

    Args:
      directory: a path or URL.
      is_async: write in the background.
      read_only: do not write, remove or rename anything.
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
        # What is removed is decided by checkpointing.py, after verification.
        max_to_keep=None,
        enable_async_checkpointing=is_async,
      ),
    )

  def steps(self) -> list[int]:
    """Existing steps, ascending, intact or not; the same in every process."""
    return distributed.agree(
      sorted(self._manager.all_steps()) if self.directory.exists() else []
    )

  def has_traces(self) -> bool:
    """Whether anything was ever saved here, including damaged steps."""
    return bool(self.steps()) or distributed.agree(
      self.directory.exists()
      and any(_DAMAGED in path.name for path in self.directory.iterdir())
    )

  def write(
    self, step: int, leaves: Mapping[str, Any], manifest: Mapping[str, Any]
  ) -> None:
    """Writes a step, or begins to: only `wait` confirms it."""
    if self._read_only:
      raise ValueError(f'{self.directory} was opened read_only')
    self._manager.save(
      step,
      args=ocp.args.Composite(
        # Not StandardSave, which cannot restore a part of the leaves.
        state=ocp.args.PyTreeSave(dict(leaves)),
        manifest=ocp.args.JsonSave(dict(manifest)),
      ),
      # Orbax would silently skip steps by its own save policy.
      force=True,
    )

  def wait(self, step: int) -> None:
    """Waits until a step is written, and raises the writer's error.

    Raises:
      DamagedError: Orbax reported no error, but the step does not exist.
    """
    self._manager.wait_until_finished()
    # A full disk surfaces here, not in `save`, which returns before the write.
    self._manager.check_for_errors()
    if step not in self.steps():
      raise checkpoint_manifest.DamagedError(
        f'step {step} is missing in {self.directory} after it was written'
      )

  def manifest(self, step: int) -> dict[str, Any]:
    """The manifest of a step.

    Raises:
      DamagedError: it cannot be read, or differs from what was written.
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
    """Verified leaves by path.

    Args:
      step: the step.
      manifest: of this step.
      targets: leaves to restore, with their shapes, dtypes and shardings;
        None: all, as numpy arrays.

    Raises:
      DamagedError: they cannot be read, or differ from what was written.
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
    """Renames a damaged step, with an error in the log; never deletes it."""
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
    # Every process has chosen the same name before one renames, and sees the
    # renamed directory before it lists the steps again.
    distributed.barrier()
    if distributed.is_first():
      source.rename(target)
    distributed.barrier()
    self._manager.reload()

  def delete(self, step: int) -> None:
    """Deletes a step."""
    self._manager.delete(step)

  def close(self) -> None:
    """Ends Orbax's threads."""
    self._manager.close()

  def _aside(self, step: int, number: int) -> epath.Path:
    return self.directory / f'{step}{_DAMAGED}{number}'

  def _load(self, step: int, **item: Any) -> Any:
    """One item of a step, given as name=arguments."""
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
    # Bytes may be bad for one process alone, whose shards they are.
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
  """Collects the tasks that a failed read leaves behind, silently.

  Orbax reads all leaves at once and raises the first failure; each of the other
  tasks would print a traceback when it is garbage-collected.
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
