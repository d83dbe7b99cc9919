"""Checkpoints that are either the bytes that were saved, or not used.

Orbax writes them atomically (checkpoint_store.py); on top of it come a digest
for every leaf (manifest.py), verified at every restore and, before anything
older is removed, read back after every save. A damaged step is named, set aside
by a rename, and the next older one that verifies is used.
"""

from collections.abc import Collection, Iterator, Mapping
import dataclasses
from typing import Any, Literal

from etils import epath
import jax

from score_jax.training import checkpoint_manifest, checkpoint_store


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
        `save`, `restore`, `wait` or `close`.
      read_back: read each step again once written; costs as much host memory
        as the state. Without it, the newest step known to be intact stays.
      read_only: neither save, nor remove, nor rename.
      may_be_infinite: paths of leaves where infinity is legitimate.
    """
    if keep < 1:
      raise ValueError(f'keep={keep}: at least one checkpoint must stay')
    self._store = checkpoint_store.Store(
      directory, is_async=is_async, read_only=read_only
    )
    self._keep = keep
    self._is_async = is_async
    self._read_back = read_back
    self._may_be_infinite = frozenset(may_be_infinite)
    self._pending: int | None = None  # written, or being so; not yet checked
    self._verified: set[int] = set()

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *exception) -> None:
    self.close()

  def steps(self) -> list[int]:
    """Steps that were saved, ascending; whether they verify is not known."""
    return self._store.steps()

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
    latest = max(self.steps(), default=None)
    if latest is not None and step <= latest:
      raise ValueError(
        f'step {step} is not later than step {latest} in '
        f'{self._store.directory}'
      )
    leaves = checkpoint_manifest.flatten(state)
    manifest = checkpoint_manifest.make(
      leaves, metadata or {}, score, may_be_infinite=self._may_be_infinite
    )
    self._store.write(step, leaves, manifest)
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
    leaves = checkpoint_manifest.flatten(target)
    for candidate in self._candidates(step):
      try:
        manifest = self._store.manifest(candidate)
        checkpoint_manifest.check_target(manifest, leaves, partial=partial)
        restored = self._store.leaves(candidate, manifest, leaves)
      except checkpoint_manifest.DamagedError as error:
        self._store.set_aside(candidate, error)
        continue
      self._verified.add(candidate)
      state = jax.tree.unflatten(
        jax.tree.structure(target), [restored[key] for key in leaves]
      )
      return Restored(candidate, state, dict(manifest['metadata']))
    if isinstance(step, int) or self._store.has_traces():
      raise checkpoint_manifest.DamagedError(
        f'there is no intact checkpoint for step={step} in '
        f'{self._store.directory}; to start this stage over, remove that '
        'directory'
      )
    return None

  def wait(self) -> None:
    """Waits for a save in the background, checks it, and surfaces its error."""
    step, self._pending = self._pending, None
    if step is None:
      return
    self._store.wait(step)
    if self._read_back:
      self._store.leaves(step, self._store.manifest(step))
      self._verified.add(step)
    self._prune()

  def close(self) -> None:
    """Waits, and lets Orbax's threads go."""
    try:
      self.wait()
    finally:
      self._store.close()

  def _candidates(self, step: Literal['latest', 'best'] | int) -> Iterator[int]:
    """Steps to try, the most wanted first."""
    newest_first = self.steps()[::-1]
    if isinstance(step, int):
      return iter([s for s in newest_first if s == step])
    if step == 'latest':
      return iter(newest_first)
    if step == 'best':
      scores = {s: self._score(s) for s in newest_first}
      scored = [s for s in newest_first if scores[s] is not None]
      scored.sort(key=lambda s: (-scores[s], s))
      return iter(scored + [s for s in newest_first if scores[s] is None])
    raise ValueError(f"step={step!r}: 'latest', 'best' or a number")

  def _score(self, step: int) -> float | None:
    try:
      return self._store.manifest(step)['score']
    except checkpoint_manifest.DamagedError:
      return None

  def _prune(self) -> None:
    """Removes what is neither new, nor best, nor the last known intact."""
    steps = self.steps()
    stay = {*steps[-self._keep :], next(self._candidates('best'))}
    stay.add(max(self._verified, default=steps[-1]))
    for step in steps:
      if step in stay:
        continue
      try:
        self._store.manifest(step)
      except checkpoint_manifest.DamagedError as error:
        self._store.set_aside(step, error)
        continue
      self._store.delete(step)
      self._verified.discard(step)
