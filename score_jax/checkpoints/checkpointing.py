"""Checkpoints that are restored bit for bit as saved, or not at all.

Orbax writes them atomically (checkpoint_store.py). A checksum of every leaf
(checkpoint_manifest.py) is verified at every restore, and after every save
before anything older is removed; each host sums and reads its own shards. A
damaged step is renamed, with an error in the log, and the next older one that
verifies is restored.

A state with a `params` is three times as large as these alone. The newest one
is kept whole, to go on from; of the best only the parameters are.
"""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any, Literal

from etils import epath
import jax

from score_jax.checkpoints import checkpoint_manifest, checkpoint_store


@dataclasses.dataclass(frozen=True)
class Restored:
  """A verified checkpoint.

  Attributes:
    step: its step.
    state: the target's tree, of jax arrays.
    metadata: saved beside it.
    score: by which 'best' was chosen, if it was saved with one.
  """

  step: int
  state: Any
  metadata: dict[str, Any]
  score: float | None


class Checkpoints:
  """The checkpoints of one stage, in one directory.

  For one writer at a time (the run directory is locked) and any number of
  readers, which open it with `read_only`. Every method is a collective: call it
  in every process.

  Example:
    >>> with sj.Checkpoints('checkpoints') as checkpoints:
    ...   checkpoints.save(1, state, score=0.5)
    ...   restored = checkpoints.restore(state, 'best')
    >>> restored.step
    1
  """

  def __init__(
    self,
    directory: epath.PathLike,
    *,
    keep: int = 1,
    is_async: bool = False,
    read_only: bool = False,
  ):
    """Opens a directory; a writer creates it and removes unfinished saves.

    Args:
      directory: relative to the working directory, or absolute.
      keep: number of newest steps that are kept whole, beside the best one.
      is_async: write in the background; an error then surfaces at the next
        `poll`, `save`, `restore`, `wait` or `close`.
      read_only: do not save, remove or rename anything.
    """
    if keep < 1:
      raise ValueError(f'keep={keep}: at least one checkpoint must be kept')
    self._store = checkpoint_store.Store(
      directory, is_async=is_async, read_only=read_only
    )
    self._keep = keep
    self._is_async = is_async
    self._pending: int | None = None  # being written, or not yet verified

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *exception) -> None:
    self.close()

  def steps(self) -> list[int]:
    """Saved steps, ascending, damaged ones included."""
    return self._store.steps()

  def save(
    self,
    step: int,
    state: Any,
    metadata: Mapping[str, Any] | None = None,
    *,
    score: float | None = None,
  ) -> None:
    """Saves and verifies a state; then removes steps neither new nor best.

    Of the best step, once it is not new, only `params` is kept, if the state
    has one.

    Args:
      step: later than every existing step.
      state: a pytree of arrays.
      metadata: as JSON can hold it.
      score: by which `restore(target, 'best')` chooses, the higher the better.

    Raises:
      FloatingPointError: the state is not finite; nothing is written.
      ValueError: the step is not later than the existing ones.
      DamagedError: the step reads back differently; nothing is removed.
    """
    self.wait()
    latest = max(self.steps(), default=None)
    if latest is not None and step <= latest:
      raise ValueError(
        f'step {step} is not later than step {latest} in '
        f'{self._store.directory}'
      )
    leaves = checkpoint_manifest.flatten(state)
    manifest = checkpoint_manifest.make(leaves, metadata or {}, score)
    self._store.write(step, leaves, manifest)
    self._pending = step
    if not self._is_async:
      self.wait()

  def set_score(self, step: int, score: float | None) -> None:
    """Gives a step that was saved without one a score."""
    self.wait()
    self._store.set_score(step, score)

  def restore(
    self,
    target: Any,
    step: Literal['latest', 'best'] | int = 'latest',
    *,
    partial: bool = False,
  ) -> Restored | None:
    """The newest checkpoint that verifies, the best one, or that of a step.

    No other takes the place of the best one.

    Args:
      target: a pytree of arrays or jax.ShapeDtypeStruct; each leaf is restored
        with that leaf's sharding, or on the first device.
      step: 'best' is the highest score, the earliest of equal ones.
      partial: the target may have some of the leaves only, such as
        `{'params': ...}`.

    Returns:
      None where nothing was ever saved.

    Raises:
      MismatchError: it is of other leaves, shapes or dtypes than the target.
      DamagedError: something was saved, but no step asked for verifies, or has
        more than the parameters that are kept of it, or the best one does not.
    """
    self.wait()
    leaves = checkpoint_manifest.flatten(target)
    for candidate in self._candidates(step):
      if not self._store.has(candidate, leaves):
        raise checkpoint_manifest.DamagedError(
          f'only the parameters are left of step {candidate}, which is what '
          f'there is for step={step} in {self._store.directory}'
        )
      try:
        manifest = self._store.manifest(candidate)
        checkpoint_manifest.check_target(manifest, leaves, partial=partial)
        restored = self._store.leaves(candidate, manifest, leaves)
      except checkpoint_manifest.DamagedError as error:
        if step == 'best':
          raise self._best_is_damaged(candidate, error) from error
        self._store.set_aside(candidate, error)
        continue
      state = jax.tree.unflatten(
        jax.tree.structure(target), [restored[key] for key in leaves]
      )
      return Restored(
        candidate,
        state,
        dict(manifest['metadata']),
        self._store.score(candidate, manifest),
      )
    if isinstance(step, int) or self._store.has_traces():
      raise checkpoint_manifest.DamagedError(
        f'there is no intact checkpoint for step={step} in '
        f'{self._store.directory}'
      )
    return None

  def poll(self) -> None:
    """As `wait` if a save in the background is over, else nothing."""
    if self._pending is not None and self._store.is_over():
      self.wait()

  def wait(self) -> None:
    """Waits for a save in the background, verifies it, and raises its error."""
    step, self._pending = self._pending, None
    if step is None:
      return
    # Read back before anything older is removed: the disk may have lied.
    self._store.confirm(step)
    self._prune()

  def keep_parameters(self, step: Literal['latest', 'best']) -> None:
    """Keeps the parameters of the newest or the best step, and nothing else."""
    self.wait()
    chosen = next(self._candidates(step), None)
    for other in self.steps():
      if other != chosen:
        self._store.delete(other)
    if chosen is not None:
      self._store.shrink(chosen)

  def close(self) -> None:
    """Waits, and ends Orbax's threads."""
    try:
      self.wait()
    finally:
      self._store.close()

  def _candidates(self, step: Literal['latest', 'best'] | int) -> Iterator[int]:
    """Steps to try, in order of preference."""
    newest_first = self.steps()[::-1]
    if isinstance(step, int):
      return iter([s for s in newest_first if s == step])
    if step == 'latest':
      return iter(newest_first)
    if step == 'best':
      scores = {}
      for s in newest_first:
        try:
          scores[s] = self._store.score(s, self._store.manifest(s))
        except checkpoint_manifest.DamagedError as error:
          # It may be the best one: its score is not known.
          raise self._best_is_damaged(s, error) from error
      scored = [s for s in scores if scores[s] is not None]
      scored.sort(key=lambda s: (-scores[s], s))
      return iter(scored + [s for s in scores if scores[s] is None])
    raise ValueError(f"step={step!r}: 'latest', 'best' or a number")

  def _best_is_damaged(self, step, error):
    path = self._store.directory / str(step)
    return checkpoint_manifest.DamagedError(
      f'{path} is the best one, as far as is known, and is damaged: {error}; '
      f'without {path} the best of the others takes its place'
    )

  def _prune(self) -> None:
    """Removes intact steps that are neither new nor best; shrinks the best."""
    for step in self.steps():
      try:
        self._store.manifest(step)
      except checkpoint_manifest.DamagedError as error:
        self._store.set_aside(step, error)
    best = next(self._candidates('best'))
    for step in self.steps()[: -self._keep]:
      if step == best:
        self._store.shrink(step)
      else:
        self._store.delete(step)
