"""Compiled programs on disk: a run that starts again does not wait for them.

jax finds a program by a digest of its text, its options, the kind of devices
and the versions of jax and XLA. The processor is not in that digest, although
programs for the CPU are made of its instructions: each kind of processor has a
directory of its own here.
"""

import contextlib
import hashlib
import os
import pathlib
import platform

import jax

from score_jax import distributed

AUTO, NONE = 'auto', 'none'
# Shorter compilations are not worth a file. jax's own second leaves out most
# programs of a small model.
_LEAST_SECONDS = 0.2


def use(where: str, shared: str) -> None:
  """Keeps what this process compiles, and reads what was kept.

  Args:
    where: a directory or URL; 'auto': what $JAX_COMPILATION_CACHE_DIR says, or
      else one of the user's, whom alone it lets write (who can write to it can
      run code here), or `shared`; 'none': compile anew.
    shared: a directory that all processes see. Of several processes jax lets
      the first alone write, and so the others would read nothing of their own.
  """
  if where == NONE:
    jax.config.update('jax_compilation_cache_dir', None)
    return
  if where == AUTO:
    if jax.config.jax_compilation_cache_dir is not None:
      return
    where = shared if distributed.count() > 1 else _own_directory()
  jax.config.update('jax_compilation_cache_dir', f'{where}/{_processor()}')
  jax.config.update(
    'jax_persistent_cache_min_compile_time_secs', _LEAST_SECONDS
  )


def _own_directory() -> str:
  """Made at the place that the platform has for what can be made again."""
  caches = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  own = pathlib.Path(caches) / 'score_jax' / 'compiled'
  # A home that cannot be written to is no reason not to train.
  with contextlib.suppress(OSError):
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
  return str(own)


def _processor() -> str:
  """A name of the processor's kind: its architecture and a digest of it."""
  found = platform.processor()
  with contextlib.suppress(OSError):
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    # Of the first core: x86 calls its instruction sets flags, ARM features.
    kinds = ('model name', 'flags', 'features', 'cpu part')
    first = {line.partition('\t')[0].lower(): line for line in lines[::-1]}
    found = '\n'.join(first[kind] for kind in kinds if kind in first)
  digest = hashlib.sha256(found.encode()).hexdigest()
  return f'{platform.machine()}-{digest[:12]}'
