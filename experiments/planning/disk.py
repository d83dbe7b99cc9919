"""Disk that a run's checkpoints and its exported policy take, from shapes."""

import dataclasses

import jax

from experiments.planning import memory, workload

# A stage keeps its two newest checkpoints and its best one
# (`checkpoints.checkpointing`).
_KEPT_A_STAGE = 3
# What experiments.convert writes unless it is told otherwise: bfloat16.
_EXPORTED_BYTES = 2


@dataclasses.dataclass(frozen=True)
class Disk:
  """Bytes on disk, without the few of logs and samples.

  Attributes:
    checkpoint: one checkpoint: what is trained, and Adam's two moments of it.
    most_checkpoints: at one time, the one that is being written included.
    export: the policy as experiments.convert writes it, adapters merged.
  """

  checkpoint: int
  most_checkpoints: int
  export: int


def needed(work: workload.Workload) -> Disk:
  """Disk of a run with one stage for each turn (1 and 2, or 1a, 1b and 2)."""
  model = work.model
  weights = jax.tree.leaves(model.reference())
  return Disk(
    checkpoint=memory.of_shapes(model.state()),
    most_checkpoints=_KEPT_A_STAGE * len(work.sizes.max_new_tokens) + 1,
    export=_EXPORTED_BYTES * sum(leaf.size for leaf in weights),
  )
