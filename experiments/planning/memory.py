"""Bytes a device needs: what a run keeps there, and what a program adds."""

from collections.abc import Mapping
import dataclasses
import math
import re
from typing import Any

import jax

from experiments.planning import programs, workload
from score_jax.models import kv_cache
from score_jax.training import optimizers

_USED = re.compile(r'[Uu]sed ([\d.]+)([KMGT]) of')
_TEMPORARIES = re.compile(r'temporaries \(([\d.]+)([KMGT])\)')
_UNITS = {'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}


@dataclasses.dataclass(frozen=True)
class Program:
  """Memory of one compiled program, bytes a device.

  Attributes:
    arguments: that it is given, results in their place included.
    temporaries: beyond them, at the peak.
  """

  arguments: float
  temporaries: float

  @property
  def peak(self) -> float:
    """Both together."""
    return self.arguments + self.temporaries


def of_compiled(compiled: Any) -> Program:
  """What the compiler set aside."""
  found = compiled.memory_analysis()
  arguments = float(found.argument_size_in_bytes)
  return Program(arguments, max(0.0, found.peak_memory_in_bytes - arguments))


def of_refusal(message: str) -> Program | None:
  """What a program that the compiler refused would have needed.

  None: the message is of something else than memory.
  """
  if 'RESOURCE_EXHAUSTED' not in message:
    return None
  for pattern in (_USED, _TEMPORARIES):
    if found := pattern.search(message):
      return Program(0.0, float(found[1]) * _UNITS[found[2]])
  return Program(0.0, math.inf)


def of_shapes(tree: Any) -> int:
  """Bytes a device of shapes with shardings."""

  def size(leaf):
    dims = leaf.shape
    if leaf.sharding is not None:
      dims = leaf.sharding.shard_shape(dims)
    return math.prod(dims) * leaf.dtype.itemsize

  return sum(map(size, jax.tree.leaves(tree)))


def resident(work: workload.Workload) -> Mapping[str, int]:
  """What a run keeps on a device while it trains, by name.

  `decode weights` exist during the episode, `cache` too; the rest always.
  """
  places = programs.update_places(work.model, work.mesh)
  optimizer = optimizers.make_optimizer(1e-5)
  state = programs.train_state(work.model, optimizer, places)
  decoded = programs.placed(
    work.model.decoded(),
    programs.episode_places(work.model, work.rollout_mesh).weights,
  )
  return {
    'trained weights': of_shapes(state.params),
    'optimizer': of_shapes(state.opt_state),
    'reference': of_shapes(programs.reference(work.model, places)),
    'decode weights': of_shapes(decoded),
    'cache': _cache(work),
  }


def _cache(work):
  """Keys and values of all rows: by rows or by heads, all devices share it."""
  sizes = work.sizes
  cache = jax.eval_shape(
    lambda: kv_cache.empty(
      work.model.config,
      sizes.rows,
      sizes.length,
      block=sizes.block,
      dtype=work.model.dtype,
      transposed=work.model.transposed,
    )
  )
  whole = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(cache.layers))
  return whole // work.rollout_mesh.size
