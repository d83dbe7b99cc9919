"""Checkpoints that are either the bytes that were saved, or not used.

Orbax writes them atomically; on top of it come a digest for every leaf
(manifest.py), verified at every restore and, before anything older is removed,
read back after every save. A damaged step is named, set aside by a rename, and
the next older one that verifies is used.
"""

from collections.abc import Collection, Iterator, Mapping
import dataclasses
import logging
from typing import Any, Literal

from etils import epath
import jax
from jax.experimental import multihost_utils
import numpy as np
import orbax.checkpoint as ocp

from score_jax.training import manifest as manifest_lib

_LOGGER = logging.getLogger(__name__)
_DAMAGED = '.damaged-'
_UNFINISHED = '.orbax-checkpoint-tmp'


@dataclasses.dataclass(frozen=True)
class Restored:
  """A verified checkpoint.

  Attributes:
    step: its step.
    state: as the target that was given, of jax arrays.
    metadata: what was saved beside it.
  """

  step: int
  state: Any
  metadata: dict[str, Any]


class Checkpoints:
  """The checkpoints of one stage, in one directory, one subdirectory a step.

  Not for two writers at once: the run directory's lock sees to that. Readers
  (evaluation) open it with `read_only` and change nothing.
  """

  def __init__(
    self,
    directory: epath.PathLike,
    *,
    keep: int = 2,
    is_async: bool = False,
    read_back: bool = True,
    read_only: bool = False,
    may_be_infinite: Collection[str] = (),
  ):
    """Opens a directory; a writer makes it, and clears unfinished saves away.

    Args:
      directory: where; relative to the working directory or absolute.
      keep: newest steps that are kept, beside the best one.
      is_async: write in the background; an error then surfaces at the next
        `save`, `restore` or `close`.
      read_back: read each step again once written; costs as much host memory
        as the state. Without it, the newest step known to be intact stays.
      read_only: neither save, nor remove, nor rename.
      may_be_infinite: paths of leaves where infinity is legitimate.
    """
    if keep < 1:
      raise ValueError(f'keep={keep}: at least one checkpoint must stay')
    self._directory = epath.Path(directory).resolve()
    self._keep = keep
    self._read_back = read_back
    self._read_only = read_only
    self._may_be_infinite = frozenset(may_be_infinite)
    self._pending: int | None = None  # written, but not yet read back
    self._verified: set[int] = set()
    self._scores: dict[int, float | None] = {}
    if not read_only:
      self._directory.mkdir(parents=True, exist_ok=True)
      self._remove_unfinished()
    self._manager = ocp.CheckpointManager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        create=not read_only,
        max_to_keep=None,  # _prune decides
        enable_async_checkpointing=is_async,
      ),
    )
    self._is_async = is_async

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *exception) -> None:
    self.close()

  def steps(self) -> list[int]:
    """Steps that were saved, ascending; whether they verify is not known."""
    if not self._directory.exists():
      return []
    return sorted(self._manager.all_steps())

  def save(
    self,
    step: int,
    state: Any,
    metadata: Mapping[str, Any] | None = None,
    *,
    score: float | None = None,
  ) -> None:
    """Saves a state; then removes what is neither new nor best.

    Args:
      step: later than every step there is.
      state: a pytree of arrays.
      metadata: what JSON can hold.
      score: by which `restore(target, 'best')` chooses, the higher the better.

    Raises:
      FloatingPointError: the state is not finite; nothing is written.
      ValueError: the step is not later than the ones there are.
      DamagedError: what was written reads back as something else.
    """
    self.wait()
    if self._read_only:
      raise ValueError(f'{self._directory} was opened read_only')
    latest = max(self.steps(), default=None)
    if latest is not None and step <= latest:
      raise ValueError(
        f'step {step} is not later than step {latest} in {self._directory}'
      )
    leaves = manifest_lib.flatten(state)
    manifest = manifest_lib.make(
      leaves, metadata or {}, score, may_be_infinite=self._may_be_infinite
    )
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.PyTreeSave(leaves),
        manifest=ocp.args.JsonSave(manifest),
      ),
      force=True,
    )
    self._pending = step
    if not self._is_async:
      self.wait()

  def restore(
    self,
    target: Any,
    step: Literal['latest', 'best'] | int = 'latest',
    *,
    partial: bool = False,
  ) -> Restored | None:
    """The newest or best checkpoint that verifies, or a given one.

    Args:
      target: a pytree of arrays or jax.ShapeDtypeStruct; each leaf is restored
        with that leaf's sharding, or on the first device.
      step: which; `best` is the highest score, of equals the earliest.
      partial: the target may ask for some of the leaves only, such as
        `{'params': ...}`.

    Returns:
      None where nothing was ever saved.

    Raises:
      MismatchError: it is of other leaves, shapes or dtypes than the target.
      DamagedError: there are checkpoints, and none that was asked for
        verifies.
    """
    self.wait()
    leaves = manifest_lib.flatten(target)
    treedef = jax.tree.structure(target)
    for candidate in self._candidates(step):
      try:
        manifest = self._manifest(candidate)
        manifest_lib.check_target(manifest, leaves, partial=partial)
        restored = self._read(candidate, manifest, leaves)
      except manifest_lib.DamagedError as error:
        self._set_aside(candidate, error)
        continue
      self._verified.add(candidate)
      ordered = [restored[key] for key in leaves]
      state = jax.tree.unflatten(treedef, ordered)
      return Restored(candidate, state, dict(manifest['metadata']))
    if isinstance(step, int) or self._has_traces():
      raise manifest_lib.DamagedError(
        f'no checkpoint for step={step} in {self._directory} is intact; to '
        'start this stage over, remove that directory'
      )
    return None

  def wait(self) -> None:
    """Waits for a save in the background, checks it, and surfaces its error."""
    step, self._pending = self._pending, None
    if step is None:
      return
    self._manager.wait_until_finished()
    self._manager.check_for_errors()
    if step not in self.steps():
      raise manifest_lib.DamagedError(f'step {step} was not written')
    if self._read_back:
      self._read(step, self._manifest(step), None)
      self._verified.add(step)
    self._prune()

  def close(self) -> None:
    """Waits, and lets Orbax's threads go."""
    try:
      self.wait()
    finally:
      self._manager.close()

  def _candidates(self, step: Literal['latest', 'best'] | int) -> Iterator[int]:
    newest_first = self.steps()[::-1]
    if isinstance(step, int):
      return iter([s for s in newest_first if s == step])
    if step == 'latest':
      return iter(newest_first)
    if step == 'best':
      scored = [s for s in newest_first if self._score(s) is not None]
      scored.sort(key=lambda s: (-self._score(s), s))
      return iter(scored + [s for s in newest_first if s not in scored])
    raise ValueError(f"step={step!r}: 'latest', 'best' or a number")

  def _manifest(self, step: int) -> dict[str, Any]:
    manifest = self._load(step, manifest=ocp.args.JsonRestore())
    manifest_lib.check(manifest)
    return manifest

  def _score(self, step: int) -> float | None:
    if step not in self._scores:
      try:
        self._scores[step] = self._manifest(step)['score']
      except manifest_lib.DamagedError:
        self._scores[step] = None
    return self._scores[step]

  def _read(
    self,
    step: int,
    manifest: Mapping[str, Any],
    targets: Mapping[str, Any] | None,
  ) -> dict[str, Any]:
    """Verified leaves as the targets ask, or all of them as numpy arrays."""
    if targets is None:
      item = dict.fromkeys(manifest['leaves'], 0)
      arguments = {
        key: ocp.RestoreArgs(restore_type=np.ndarray) for key in item
      }
    else:
      item = {key: _abstract(leaf) for key, leaf in targets.items()}
      arguments = ocp.checkpoint_utils.construct_restore_args(item)
    leaves = self._load(
      step,
      state=ocp.args.PyTreeRestore(
        item=item, restore_args=arguments, partial_restore=True
      ),
    )
    manifest_lib.check_leaves(manifest, leaves)
    return leaves

  def _load(self, step: int, **item: Any) -> Any:
    """One item of a step, by name and arguments; all processes alike."""
    loaded = failure = None
    [name] = item
    try:
      loaded = self._manager.restore(step, args=ocp.args.Composite(**item))[
        name
      ]
    except Exception as error:
      # Orbax, tensorstore and json have no common exception for bad bytes.
      failure = error
    if not _all_processes(failure is None):
      raise manifest_lib.DamagedError(
        f'its {name} cannot be read: {_first_line(failure)}'
      ) from failure
    return loaded

  def _set_aside(self, step: int, error: Exception) -> None:
    """Names a damaged step and moves it out of the way, never deletes it."""
    source = self._directory / str(step)
    target = source
    number = 0
    while target.exists():
      number += 1
      target = self._directory / f'{step}{_DAMAGED}{number}'
    if self._read_only:
      _LOGGER.error('SKIPPED damaged checkpoint %s: %s', source, error)
      return
    _LOGGER.error(
      'SKIPPED damaged checkpoint %s, now %s: %s', source, target.name, error
    )
    if jax.process_index() == 0:
      source.rename(target)
    _barrier('checkpoint set aside')
    self._manager.reload()
    self._scores.pop(step, None)

  def _has_traces(self) -> bool:
    """Whether anything was ever saved here, damaged or not."""
    return bool(self.steps()) or (
      self._directory.exists()
      and any(_DAMAGED in path.name for path in self._directory.iterdir())
    )

  def _prune(self) -> None:
    """Removes what is neither new, nor best, nor the last known intact."""
    steps = self.steps()
    stay = {*steps[-self._keep :], next(self._candidates('best'))}
    stay.add(max(self._verified, default=steps[-1]))
    for step in steps:
      if step in stay:
        continue
      try:
        self._manifest(step)
      except manifest_lib.DamagedError as error:
        self._set_aside(step, error)
        continue
      self._manager.delete(step)
      self._verified.discard(step)

  def _remove_unfinished(self) -> None:
    if jax.process_index() == 0:
      for path in self._directory.iterdir():
        if _UNFINISHED in path.name:
          _LOGGER.warning('removing the unfinished checkpoint %s', path)
          path.rmtree()
    _barrier('unfinished checkpoints removed')


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
  sharding = getattr(leaf, 'sharding', None)
  if sharding is None:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _all_processes(is_so: bool) -> bool:
  """Whether it is so in every process: they must decide alike."""
  if jax.process_count() == 1:
    return is_so
  return bool(np.all(multihost_utils.process_allgather(np.array(is_so))))


def _barrier(name: str) -> None:
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def _first_line(error: BaseException | None) -> str:
  """One line about a failure, here or in another process."""
  if error is None:
    return 'another process failed'
  text = str(error).strip().partition('\n')[0]
  return f'{type(error).__name__}: {text[:200]}'
