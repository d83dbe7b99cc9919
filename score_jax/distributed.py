"""Several processes that work as one: `jax.distributed`.

Every process runs the same program on the same problems, so that each can
build every argument of a compiled program; of its results, a process sees the
sequences on its own devices. It decodes those, grades its share, and gathers
the others' results, so that code above this module does not ask which process
it is: all processes decide alike, from equal data.

Collectives are marked so: call them in every process, in the same order. With
one process, each returns its own value.
"""

from collections.abc import Callable, Sequence
import math
import pickle
import socket
from typing import Any, TypeVar

import jax
from jax import sharding as jax_sharding
from jax.experimental import multihost_utils
import numpy as np

T = TypeVar('T')

# A value that fits is gathered in one message of this size; a longer one in a
# second message, of the next power of two. Each size is compiled once.
_MESSAGE_BYTES = 4096
_LENGTH_BYTES = 8


def count() -> int:
  """Number of processes. Not a collective."""
  # `jax.process_count` would start the devices, too early where a program has
  # still to choose them.
  return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first() -> bool:
  """Whether this process writes files and console. Not a collective."""
  return count() == 1 or jax.process_index() == 0


def gather(value: T) -> list[T]:
  """Every process's value, in the order of the processes. Collective."""
  if count() == 1:
    return [value]
  # Pickle is safe here: processes of one run trust each other.
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
  """Every process's message, padded to a common size. Collective."""
  padded = np.frombuffer(message.ljust(size, b'\0'), np.uint8)
  return [each.tobytes() for each in multihost_utils.process_allgather(padded)]


def agree(value: T) -> T:
  """The first process's value, in every process. Collective."""
  return gather(value if is_first() else None)[0]


def all_of(is_so: bool) -> bool:
  """Whether it is true in every process. Collective."""
  return all(gather(bool(is_so)))


def barrier() -> None:
  """Waits until every process has called it. Collective."""
  gather(None)


def everywhere(function: Callable[[], T]) -> T:
  """`function()` of this process, if all processes succeed. Collective.

  The function itself must call no collective.

  Raises:
    Exception: what it raised here, or else in the first process in which it
      failed.
  """
  value, error = _outcome(function)
  _raise_first([error, *gather(error)])
  return value


def by_first(function: Callable[[], T]) -> T:
  """What `function()` returns or raises in the first process. Collective.

  The other processes wait for it and do not call it. It must call no
  collective.
  """
  value, error = agree(_outcome(function) if is_first() else None)
  _raise_first([error])
  return value


def by_hosts(function: Callable[[], T]) -> T:
  """`function()` of the first process of this one's host. Collective.

  The others of the host do not call it. It must call no collective.

  Raises:
    Exception: as `everywhere`.
  """
  host = socket.gethostname()
  first = gather(host).index(host)
  calls = count() == 1 or first == jax.process_index()
  return gather(everywhere(function if calls else lambda: None))[first]


def share_out(
  function: Callable[[Sequence[Any]], Sequence[T]], items: Sequence[Any]
) -> list[T]:
  """`function(items)`, each process computing its share. Collective.

  Args:
    function: one result for each item, in order, whatever the other items. It
      must call no collective.
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
  """(result of `function()`, error that it raised): one of them is None."""
  if count() == 1:
    return function(), None
  try:
    return function(), None
  except Exception as error:
    return None, _portable(error)


def _portable(error):
  """The error, or one with its message where it cannot be pickled."""
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
  """Number of parts that it splits the first dimension into."""
  axes = sharding.spec[0] if sharding.spec else None
  names = axes if isinstance(axes, tuple) else (axes,) if axes else ()
  return math.prod(sharding.mesh.shape[name] for name in names)


def put(value: Any, sharding: jax_sharding.Sharding | None) -> jax.Array:
  """An array with a sharding that may have other processes' devices.

  Not a collective.

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
  # `device_put` would send the value to every process and compare.
  host = np.asarray(value, jax.dtypes.canonicalize_dtype(value.dtype))
  return jax.make_array_from_callback(host.shape, sharding, host.__getitem__)


def put_batch(tree: Any, sharding: jax_sharding.NamedSharding) -> Any:
  """Arrays [B, ...] with their first dimension sharded. Not a collective.

  Where B does not divide, every device has the whole array: correct, but of use
  for small arrays only.
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
  """The sequences of arrays [B, ...] that are on this process's devices.

  Collective where `tree` has another sharding, since it is moved then.

  Args:
    tree: arrays.
    sharding: of the batch; required where there are several processes.

  Returns:
    Indices i64 [b], ascending, and numpy arrays [b, ...]. Every sequence
    belongs to exactly one process.
  """
  if count() == 1:
    host = jax.device_get(tree)
    return np.arange(len(jax.tree.leaves(host)[0])), host
  tree = put_batch(tree, sharding)
  first = jax.tree.leaves(tree)[0]
  everything = np.arange(len(first))
  index = _own(first, lambda shard: everything[shard.index[0]], everything)
  order = np.argsort(index)
  return index[order], jax.tree.map(
    lambda leaf: _own(leaf, lambda shard: np.asarray(shard.data), leaf)[order],
    tree,
  )


def _own(array, read, like):
  """`read` of this process's shards, concatenated; replicas counted once.

  Where there are none: an empty array with the shape and dtype of `like`.
  """
  none = np.zeros((0, *like.shape[1:]), like.dtype)
  shards = (s for s in array.addressable_shards if s.replica_id == 0)
  return np.concatenate([none, *map(read, shards)])


def merge_sequences(
  index: np.ndarray, values: Sequence[T], num_sequences: int
) -> list[T]:
  """All B sequences' values, from each process's own. Collective.

  Args:
    index: indices [b], from `local_sequences`.
    values: of these b sequences.
    num_sequences: B.
  """
  if count() == 1:
    return list(values)
  found = {}
  for indices, others in gather(([int(i) for i in index], list(values))):
    found |= zip(indices, others, strict=True)
  return [found[i] for i in range(num_sequences)]


def to_host(array: jax.Array | np.ndarray) -> np.ndarray:
  """The whole array as numpy, in every process. Collective."""
  if isinstance(array, jax.Array) and not array.is_fully_addressable:
    if array.is_fully_replicated:
      return np.asarray(array.addressable_data(0))
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
  return np.asarray(array)
