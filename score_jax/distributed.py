"""Several processes that work as one: `jax.distributed`.

Every process runs the same program and knows all problems, so that all have
every argument of a compiled program as a whole; of what it returns, a process
sees the rows on its own devices. It reads those, grades its share of all, and
tells the others, so that above this module nobody asks which process it is:
decisions are equal because what they rest on is.

The functions that talk (`gather` and all that say so) are called by every
process, in the same order. With one process each is the identity.
"""

from collections.abc import Callable, Sequence
import math
import pickle
from typing import Any, TypeVar

import jax
from jax import sharding as jax_sharding
from jax.experimental import multihost_utils
import numpy as np

T = TypeVar('T')

# What is said fits into one message of this size, or else is said in a second
# one of the next power of two: every size is a program that is compiled once.
_MESSAGE_BYTES = 4096
_LENGTH_BYTES = 8


def count() -> int:
  """How many processes there are; starts no device where there is one."""
  return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first() -> bool:
  """Whether this process writes what people read; starts no device, too."""
  return count() == 1 or jax.process_index() == 0


def gather(value: T) -> list[T]:
  """Every process's value, in the order of the processes; they talk."""
  if count() == 1:
    return [value]
  # Processes of one run trust each other, as pickle wants it.
  data = pickle.dumps(value)
  message = len(data).to_bytes(_LENGTH_BYTES, 'big') + data
  heads = _all_bytes(message[:_MESSAGE_BYTES], _MESSAGE_BYTES)
  ends = [
    _LENGTH_BYTES + int.from_bytes(head[:_LENGTH_BYTES], 'big')
    for head in heads
  ]
  if max(ends) > _MESSAGE_BYTES:
    heads = _all_bytes(message, 1 << (max(ends) - 1).bit_length())
  return [
    pickle.loads(head[_LENGTH_BYTES:end]) for head, end in zip(heads, ends)
  ]


def _all_bytes(message: bytes, size: int) -> list[bytes]:
  """Every process's message, padded to a size that all have."""
  padded = np.frombuffer(message.ljust(size, b'\0'), np.uint8)
  return [row.tobytes() for row in multihost_utils.process_allgather(padded)]


def agree(value: T) -> T:
  """The first process's value, in all of them; they talk."""
  return gather(value if is_first() else None)[0]


def all_of(is_so: bool) -> bool:
  """Whether it is so in every process; they talk."""
  return all(gather(bool(is_so)))


def barrier() -> None:
  """Returns when every process has got here; they talk."""
  gather(None)


def everywhere(function: Callable[[], T]) -> T:
  """Its own process's `function()`, if it succeeds in all of them; they talk.

  The function itself must not talk.

  Raises:
    Exception: what it raised here, or else in the first process that it
      failed in.
  """
  value, error = _outcome(function)
  _raise_first([error, *gather(error)])
  return value


def by_first(function: Callable[[], T]) -> T:
  """What `function()` is, or raises, in the first process; they talk.

  The other processes do not call it, and wait until it is done. It must not
  talk.
  """
  value, error = agree(_outcome(function) if is_first() else None)
  _raise_first([error])
  return value


def share_out(
  function: Callable[[Sequence[Any]], Sequence[T]], items: Sequence[Any]
) -> list[T]:
  """`function(items)`, of which each process does its share; they talk.

  Args:
    function: gives one result an item, in order, whichever the others are.
      It must not talk.
    items: the same in every process.
  """
  if count() == 1:
    return list(function(items))
  ends = np.linspace(0, len(items), count() + 1).astype(int)
  start, end = ends[jax.process_index()], ends[jax.process_index() + 1]
  part = items[start:end]
  outcomes = gather(_outcome(lambda: list(function(part)) if len(part) else []))
  _raise_first([error for _, error in outcomes])
  return [result for share, _ in outcomes for result in share]


def _outcome(function):
  """What `function()` returns, and what it raises: one of them is None."""
  if count() == 1:
    return function(), None
  try:
    return function(), None
  except Exception as error:
    return None, _portable(error)


def _portable(error):
  """The error, or one that says the same and can be sent."""
  try:
    pickle.loads(pickle.dumps(error))
  except Exception:
    return RuntimeError(f'{type(error).__name__}: {error}')
  return error


def _raise_first(errors):
  for error in errors:
    if error is not None:
      raise error


def batch_shards(sharding: jax_sharding.NamedSharding) -> int:
  """Into how many parts it splits the first dimension."""
  axes = sharding.spec[0] if sharding.spec else None
  names = axes if isinstance(axes, tuple) else (axes,) if axes else ()
  return math.prod(sharding.mesh.shape[name] for name in names)


def put(value: Any, sharding: jax_sharding.Sharding | None) -> jax.Array:
  """An array on the devices of a sharding, whosever they are.

  Args:
    value: numpy array, jax array or keys; the same in every process.
    sharding: None: the default device.
  """
  if sharding is None or sharding.is_fully_addressable:
    return jax.device_put(value, sharding)
  if isinstance(value, jax.Array) and not value.is_fully_addressable:
    return jax.device_put(value, sharding)
  if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
    data = put(jax.random.key_data(value), sharding)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(value))
  # Not device_put, which would send every value to every process to compare.
  host = np.asarray(value, jax.dtypes.canonicalize_dtype(value.dtype))
  return jax.make_array_from_callback(host.shape, sharding, host.__getitem__)


def put_batch(tree: Any, sharding: jax_sharding.NamedSharding) -> Any:
  """Arrays [B, ...] on the devices of their rows.

  Arrays whose rows do not divide lie whole on every device: right, and of use
  for small ones only.
  """
  parts = batch_shards(sharding)
  whole = jax_sharding.NamedSharding(
    sharding.mesh, jax_sharding.PartitionSpec()
  )
  return jax.tree.map(
    lambda x: put(x, whole if x.shape[0] % parts else sharding), tree
  )


def local_sequences(
  tree: Any, sharding: jax_sharding.NamedSharding | None
) -> tuple[np.ndarray, Any]:
  """The rows of arrays [B, ...] that are this process's own.

  Args:
    tree: arrays; where their rows do not lie as `sharding` says, they are
      moved.
    sharding: of rows; needed where there are several processes.

  Returns:
    The rows' indices i64 [b], ascending, and numpy arrays [b, ...]. Every row
    is exactly one process's.
  """
  if count() == 1:
    host = jax.device_get(tree)
    return np.arange(len(jax.tree.leaves(host)[0])), host
  tree = put_batch(tree, sharding)
  first = jax.tree.leaves(tree)[0]
  everything = np.arange(len(first))
  rows = _own(first, lambda shard: everything[shard.index[0]], everything)
  order = np.argsort(rows)
  return rows[order], jax.tree.map(
    lambda leaf: _own(leaf, lambda shard: np.asarray(shard.data), leaf)[order],
    tree,
  )


def _own(array, read, like):
  """`read` of the shards that no other process counts as its own, joined.

  There may be none: then no rows with the shape and dtype of `like`'s.
  """
  none = np.zeros((0, *like.shape[1:]), like.dtype)
  shards = (s for s in array.addressable_shards if s.replica_id == 0)
  return np.concatenate([none, *map(read, shards)])


def merge_sequences(
  rows: np.ndarray, values: Sequence[T], num_rows: int
) -> list[T]:
  """All rows' values from each process's own ones; they talk.

  Args:
    rows: indices [b], from `local_sequences`.
    values: one a row of these.
    num_rows: B.
  """
  if count() == 1:
    return list(values)
  found = {}
  for indices, others in gather(([int(i) for i in rows], list(values))):
    found |= zip(indices, others, strict=True)
  return [found[row] for row in range(num_rows)]


def to_host(array: jax.Array | np.ndarray) -> np.ndarray:
  """An array's whole value, in every process; they talk."""
  if isinstance(array, jax.Array) and not array.is_fully_addressable:
    if array.is_fully_replicated:
      return np.asarray(array.addressable_data(0))
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
  return np.asarray(array)
