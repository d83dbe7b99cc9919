"""Bytes a device needs: what a run keeps there, and what a program adds."""

from collections.abc import Mapping
import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp

from experiments.planning import programs, workload
from score_jax.models import kv_cache

_USED = re.compile(r'[Uu]sed ([\d.]+)([KMGT]) of')
_TEMPORARIES = re.compile(r'temporaries \(([\d.]+)([KMGT])\)')
_UNITS = {'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}


@dataclasses.dataclass(frozen=True)
class Program:
  """Memory of one program, bytes a device.

  Attributes:
    arguments: that it is given, results in their place included.
    temporaries: beyond them, at the peak.
    is_compiled: False where the compiler rejected it for its memory.
  """

  arguments: float
  temporaries: float
  is_compiled: bool = True

  @property
  def peak(self) -> float:
    """Both together."""
    return self.arguments + self.temporaries


def of_compiled(compiled: Any) -> Program:
  """Memory that the compiler set aside for a compiled program."""
  found = compiled.memory_analysis()
  arguments = float(found.argument_size_in_bytes)
  return Program(arguments, max(0.0, found.peak_memory_in_bytes - arguments))


def of_rejection(message: str) -> Program | None:
  """Memory that a rejected program would have needed, from the error's text.

  Returns:
    None where the error is about something else; infinite temporaries where
    the message has no figure.
  """
  if 'RESOURCE_EXHAUSTED' not in message:
    return None
  for pattern in (_USED, _TEMPORARIES):
    if found := pattern.search(message):
      return Program(0.0, float(found[1]) * _UNITS[found[2]], False)
  return Program(0.0, math.inf, False)


def of_shapes(tree: Any) -> int:
  """Bytes a device of shapes with shardings; of all of it without."""

  def size(leaf):
    dims = leaf.shape
    if leaf.sharding is not None:
      dims = leaf.sharding.shard_shape(dims)
    return math.prod(dims) * leaf.dtype.itemsize

  return sum(map(size, jax.tree.leaves(tree)))


def resident(work: workload.Workload) -> Mapping[str, int]:
  """What a run keeps on a device while it trains, bytes by name.

  `decode weights` and `cache` exist during the episode, the rest always.
  """
  state = work.model.state(work.mesh)
  return {
    'trained weights': of_shapes(state.params),
    'optimizer': of_shapes(state.opt_state),
    'reference': of_shapes(work.model.reference(work.mesh)),
    'decode weights': of_shapes(work.model.inference_params(work.rollout_mesh)),
    'cache': _cache(work),
  }


def _cache(work):
  """Bytes a device of the rows' keys, and of prompts' that others wait for."""
  config, sizes = work.model.config, work.sizes
  found = work.at_once * of_shapes(cache(work.model, sizes).layers)
  if work.at_once < 1:
    floats = 2 * config.num_layers * config.num_kv_heads * config.head_dim
    prompts = floats * sizes.problems * sizes.prompt
    found += prompts * jnp.dtype(work.model.dtype).itemsize
  # Split by sequences or, over `tensor`, by heads: equal shares.
  return int(found / work.rollout_mesh.size)


def cache(model: programs.Model, sizes: programs.Sizes) -> kv_cache.KVCache:
  """Shapes of an episode's cache, of all devices together."""
  return jax.eval_shape(
    lambda: kv_cache.empty(
      model.config,
      sizes.batch_size,
      sizes.length,
      block=sizes.separator,
      dtype=model.dtype,
      transposed=model.transposed,
    )
  )
