"""What to do where a device has no memory left: flags, and by how much."""

from collections.abc import Iterator
import contextlib

import jax

from experiments.config import schema
from experiments.run import run_directory

_GIB = 2**30


@contextlib.contextmanager
def explained(settings: schema.Settings) -> Iterator[None]:
  """Turns the compiler's or allocator's error into one that names flags.

  Raises:
    RunError: a device's memory was exhausted.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    raise run_directory.RunError(message(str(error), settings)) from error


def message(error: str, settings: schema.Settings) -> str:
  """The error's first line, the memory there is, and what needs less of it."""
  lines = [
    f'a device has too little memory: {error.strip().partition(chr(10))[0]}',
    *_there(),
    'What needs less, the cheapest first (the same command with these flags '
    'goes on, but for those marked *, which make another run):',
    *(f'  {flag}' for flag in _flags(settings)),
    'python -m experiments.plan tells beforehand what fits a TPU slice.',
  ]
  return '\n'.join(lines)


def _there() -> Iterator[str]:
  """A sentence on the first device's memory, where it tells."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if {'bytes_limit', 'bytes_in_use'} <= stats.keys():
    used, limit = stats['bytes_in_use'] / _GIB, stats['bytes_limit'] / _GIB
    yield f'{used:.1f} of its {limit:.1f} GiB are in use.'


def _flags(settings: schema.Settings) -> Iterator[str]:
  size = settings.micro_batch_size
  if size > 1:
    smaller = max(
      n for n in range(1, size // 2 + 1) if settings.update_size % n == 0
    )
    yield (
      f'--micro-batch={smaller} (now {size}): {smaller / size:.0%} of the '
      'activations of an update'
    )
  if not settings.remat:
    yield '--remat: activations are computed twice, a quarter more time'
  if not settings.offload_reference:
    yield '--offload-reference: the reference waits in host memory'
  rows = settings.rollout.rows
  now = f'now {rows}' if rows else f'now all {settings.batch_size}, by devices'
  yield (
    f'--rollout.rows, of a device ({now}): the key-value cache in proportion; '
    'sequences follow those that are complete'
  )
  if settings.reference_dtype != 'bfloat16':
    yield '* --reference-dtype=bfloat16: half of the reference'
  if not settings.lora.rank:
    yield '* --lora.rank=16: no optimizer state of the weights, no second copy'
  if settings.problems_per_step > 1:
    yield (
      f'* --problems-per-step={settings.problems_per_step // 2} (now '
      f'{settings.problems_per_step}): half of the key-value cache'
    )
  yield (
    f'* --max-attempt-tokens={settings.max_attempt_tokens // 2} (now '
    f'{settings.max_attempt_tokens}): nearly half of the cache'
  )
