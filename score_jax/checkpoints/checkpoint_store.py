"""Steps on disk: written by Orbax, verified whenever they are read.

The mechanism below checkpointing.py, which decides what to keep and what to
restore. Every method but `close` is a collective: call it in every process.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
import functools
import gc
import json
import logging
import sys
from typing import Any

from etils import epath
import jax
import orbax.checkpoint as ocp
import tensorstore

from score_jax import distributed
from score_jax.checkpoints import checkpoint_manifest, checksums

_LOGGER = logging.getLogger(__name__)
_DAMAGED = '.damaged-'
_SCORE = 'score.json'
_REMOVING = '.removing-'
# What Orbax writes last to a step or an item in a bucket.
_COMMITTED = 'commit_success.txt'
# Orbax's items of a step, by the first part of a leaf's path: a policy outlives
# what only training goes on from.
_PARAMS, _STATE = 'params', 'state'
# Lies in a step whose `state` was removed.
_SHRUNK = 'parameters_alone'


class Store:
  """A directory with a subdirectory for each step: leaves and a manifest.

  Leaves below `params` can outlive a step's others.
  """

  def __init__(
    self, directory: epath.PathLike, *, is_async: bool, read_only: bool
  ):
    """Opens a directory; a writer creates it and removes what is unfinished.

    Args:
      directory: a path or URL.
      is_async: write in the background.
      read_only: do not write, remove or rename anything.
    """
    self.directory = epath.Path(directory)
    if not _is_url(self.directory):
      self.directory = self.directory.resolve()
    self._read_only = read_only
    if not read_only:
      self.directory.mkdir(parents=True, exist_ok=True)
      distributed.by_first(self._remove_unfinished)
      _silence_closed_loops()
    self._manager = ocp.CheckpointManager(
      self.directory,
      options=ocp.CheckpointManagerOptions(
        create=not read_only,
        # What is removed is decided by checkpointing.py, after verification.
        max_to_keep=None,
        enable_async_checkpointing=is_async,
        # In the background, a disk that refuses one would be waited for.
        async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
      ),
    )
    self._reader = futures.ThreadPoolExecutor(1, 'read back')
    self._read_back: futures.Future | None = None

  def steps(self) -> list[int]:
    """Existing steps, ascending, intact or not; the same in every process."""
    return distributed.agree(sorted(self._manager.all_steps()))

  def has_traces(self) -> bool:
    """Whether anything was ever saved here, including damaged steps."""
    return bool(self.steps()) or distributed.agree(
      self.directory.exists()
      and any(_DAMAGED in path.name for path in self.directory.iterdir())
    )

  def write(
    self, step: int, leaves: Mapping[str, Any], manifest: Mapping[str, Any]
  ) -> None:
    """Writes a step, or begins to: only `confirm` tells that it is written."""
    if self._read_only:
      raise ValueError(f'{self.directory} was opened read_only')
    self._manager.save(
      step,
      args=ocp.args.Composite(
        # Not StandardSave, which cannot restore a part of the leaves.
        **{
          name: ocp.args.PyTreeSave(part)
          for name, part in _by_item(leaves).items()
        },
        manifest=ocp.args.JsonSave(dict(manifest)),
      ),
      # Orbax would silently skip steps by its own save policy.
      force=True,
    )
    places = {
      key: [(shard.start, shard.data.shape) for shard in own]
      for key, leaf in leaves.items()
      if (own := list(checksums.own_shards(leaf)))
    }
    self._read_back = self._reader.submit(self._parts_on_disk, step, places)

  def is_over(self) -> bool:
    """Whether the last step is written and read back, or has failed."""
    return distributed.all_of(self._read_back.done())

  def confirm(self, step: int) -> None:
    """Waits until a step is written and read back, each host its own shards.

    Raises:
      DamagedError: it does not exist, or reads back differently.
      Exception: the writer's, such as that of a full disk.
    """
    self._manager.wait_until_finished()
    # A full disk surfaces here, not in `save`, which returns before the write.
    self._manager.check_for_errors()
    if step not in self.steps():
      raise checkpoint_manifest.DamagedError(
        f'step {step} is missing in {self.directory} after it was written'
      )
    manifest = self.manifest(step)
    found = _outcome(self._read_back.result, 'arrays')
    parts = {key: found.get(key, []) for key in manifest['leaves']}
    checkpoint_manifest.check_parts(manifest, parts)

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
    targets: Mapping[str, Any],
  ) -> dict[str, Any]:
    """Verified leaves by path.

    Args:
      step: the step.
      manifest: of this step.
      targets: leaves to restore, with their shapes, dtypes and shardings.

    Raises:
      DamagedError: they cannot be read, or differ from what was written.
    """
    leaves = {}
    for name, part in _by_item(targets).items():
      item = {key: _abstract(leaf) for key, leaf in part.items()}
      arguments = ocp.args.PyTreeRestore(
        item=item,
        restore_args=ocp.checkpoint_utils.construct_restore_args(item),
        partial_restore=True,
      )
      leaves |= self._load(step, **{name: arguments})
    checkpoint_manifest.check_parts(
      manifest, {key: checksums.of_array(leaf) for key, leaf in leaves.items()}
    )
    return leaves

  def _parts_on_disk(self, step: int, places) -> dict[str, list[Any]]:
    """Checksums of what a step's files hold at places (start, shape) of leaves.

    Runs in a thread, beside training; not a collective. Orbax reads arrays
    whole, or to the devices, where the state itself is.
    """
    self._manager.wait_until_finished()
    parts = {}
    for key, of_leaf in places.items():
      leaf = _open_leaf(self.directory / str(step) / _item(key), key)
      parts[key] = []
      for start, shape in of_leaf:
        index = tuple(slice(a, a + size) for a, size in zip(start, shape))
        shard = checksums.Shard(leaf[index].read().result(), start)
        parts[key].append(checksums.of_shard(shard))
    return parts

  def set_score(self, step: int, score: float | None) -> None:
    """Writes a score beside a step whose manifest has none."""
    if distributed.is_first():
      # One small file: it is there whole, or not at all.
      path = self.directory / str(step) / _SCORE
      temporary = path.with_name(f'.{_SCORE}.tmp')
      temporary.write_text(json.dumps(score))
      temporary.replace(path)
    distributed.barrier()

  def score(self, step: int, manifest: Mapping[str, Any]) -> float | None:
    """The score in a step's manifest, or beside it."""
    if manifest['score'] is not None:
      return manifest['score']

    def read():
      path = self.directory / str(step) / _SCORE
      return json.loads(path.read_text()) if path.exists() else None

    return distributed.by_first(read)

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
    """Removes a step; where the disk refuses, says so and goes on."""
    distributed.by_first(lambda: self._remove(self.directory / str(step)))
    self._manager.reload()

  def shrink(self, step: int) -> None:
    """Removes all of a step but `params`; where the disk refuses, says so."""
    distributed.by_first(lambda: self._shrink(self.directory / str(step)))

  def has(self, step: int, leaves: Iterable[str]) -> bool:
    """Whether a step was not shrunk to less than these leaves."""
    return distributed.agree(
      _STATE not in map(_item, leaves)
      or not (self.directory / str(step) / _SHRUNK).exists()
    )

  def close(self) -> None:
    """Ends all threads."""
    self._reader.shutdown()
    self._manager.close()

  def _aside(self, step: int, number: int) -> epath.Path:
    return self.directory / f'{step}{_DAMAGED}{number}'

  def _load(self, step: int, **item: Any) -> Any:
    """One item of a step, given as name=arguments."""
    [name] = item
    arguments = ocp.args.Composite(**item)
    return _outcome(lambda: self._manager.restore(step, args=arguments), name)[
      name
    ]

  def _shrink(self, path: epath.Path) -> None:
    if not (path / _PARAMS).exists() or not (path / _STATE).exists():
      return
    # First: what is missing without it counts as lost.
    (path / _SHRUNK).write_text('')
    self._remove(path / _STATE)

  def _remove(self, source: epath.Path) -> None:
    self._remove_leftovers()
    try:
      # Whatever ends a removal between two files, a step is whole or is none.
      # Orbax's own deletion is not so.
      if _is_url(source):
        # To rename would be to copy. Without its last file it is unfinished.
        (source / _COMMITTED).unlink(missing_ok=True)
        source.rmtree()
      else:
        source.rename(self.directory / f'{_REMOVING}{source.name}')
    except Exception as error:  # of a file system, or a client of buckets
      _LOGGER.warning('cannot remove the old checkpoint %s: %s', source, error)
    self._remove_leftovers()

  def _remove_leftovers(self) -> None:
    """Ends removals that were begun."""
    for path in self.directory.iterdir():
      if not path.name.startswith(_REMOVING):
        continue
      try:
        path.rmtree()
      except OSError as error:
        _LOGGER.warning('cannot remove %s, left over: %s', path, error)

  def _remove_unfinished(self) -> None:
    # A bucket has no empty directories.
    if not self.directory.exists():
      return
    for path in self.directory.iterdir():
      # In a bucket: a step without the file that is written last.
      if ocp.utils.is_tmp_checkpoint(path):
        _LOGGER.warning('removing the unfinished checkpoint %s', path)
        path.rmtree()
    self._remove_leftovers()


def _item(key: str) -> str:
  """The item of a step that a leaf is in."""
  return _PARAMS if key.partition('/')[0] == _PARAMS else _STATE


def _by_item(leaves: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Leaves by item; none of the items is empty."""
  found: dict[str, dict[str, Any]] = {}
  for key, leaf in leaves.items():
    found.setdefault(_item(key), {})[key] = leaf
  return found


def _outcome(read: Callable[[], Any], name: str) -> Any:
  """What `read` returns, if no process fails to read. Collective.

  Raises:
    DamagedError: it failed in a process; `name` is what was read.
  """
  found = reason = None
  try:
    found = read()
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
  return found


def _open_leaf(item: epath.Path, key: str) -> tensorstore.TensorStore:
  """A leaf of one of a step's items, as Orbax writes it."""
  base = f'{item}/' if _is_url(item) else {'driver': 'file', 'path': f'{item}/'}
  store = {'driver': 'ocdbt', 'base': base, 'path': key}
  return tensorstore.open({'driver': 'zarr', 'kvstore': store}).result()


def _is_url(path: epath.Path) -> bool:
  return '://' in str(path)


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


def _silence_closed_loops() -> None:
  """Lets the writes that a failed save leaves behind end silently."""
  hook = sys.unraisablehook
  if getattr(hook, 'func', None) is not _say:
    sys.unraisablehook = functools.partial(_say, hook)


def _say(hook, unraisable) -> None:
  # Tensorstore tells a loop of Orbax that a write has ended. Where the loop is
  # closed, that fails. It has no caller in Python: it is no error of ours.
  trace = unraisable.exc_traceback
  caller = trace and trace.tb_frame.f_code.co_name
  is_closed = 'loop is closed' in str(unraisable.exc_value)
  if not (is_closed and caller == 'call_soon_threadsafe'):
    hook(unraisable)
