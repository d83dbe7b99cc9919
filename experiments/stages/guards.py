"""What surrounds the training of all stages: checks, graders, ways to end."""

from collections.abc import Iterator
import contextlib

from experiments.run import building, context, disk_space, out_of_memory
from score_jax import types


@contextlib.contextmanager
def ready_to_train(run: context.Run) -> Iterator[context.Run]:
  """The run with its graders started, until the block ends. A collective.

  A signal ends the block without an error: `run.stop` knows of it.

  Raises:
    RunError: what it writes does not fit the disk, graders cannot work here, or
      a device's memory is exhausted.
  """
  disk_space.check(run)
  with (
    building.with_grader(run) as ready,
    out_of_memory.explained(run.settings),
    contextlib.suppress(types.StoppedError),
  ):
    yield ready
