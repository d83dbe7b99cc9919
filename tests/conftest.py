"""What holds in every test: CPU, eight virtual devices, nothing implicit.

Set through the environment and before jax is imported, so that it also holds
in the programs that tests start; and so that tests of tasks/ need no jax.
"""

import os

import pytest

VIRTUAL_DEVICES = 8

_flag = '--xla_force_host_platform_device_count'
if _flag not in os.environ.get('XLA_FLAGS', ''):
  os.environ['XLA_FLAGS'] = (
    f'{os.environ.get("XLA_FLAGS", "")} {_flag}={VIRTUAL_DEVICES}'.strip()
  )
# Unconditional: machines with an accelerator often set it for every program.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_NUMPY_RANK_PROMOTION'] = 'raise'
# Tests count compilations; a cache would hide some.
os.environ['JAX_ENABLE_COMPILATION_CACHE'] = 'false'
os.environ['MPLBACKEND'] = 'Agg'


@pytest.fixture(scope='module')
def quick_compilation():
  """Compiles without LLVM's optimisations, for what compiles more than it runs.

  A test module asks for it by `pytestmark`. Not for tests that look at compiled
  programs or at time, nor for programs that other modules run, too: they would
  find these ones in the process, which round differently.
  """
  import jax  # Here, so that tests of tasks/ run without it.

  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', False)


@pytest.fixture(scope='session')
def finished(tmp_path_factory):
  """The directory of a finished small run; tests leave it as it is."""
  from tests.support import small_run  # Here, for the same reason.

  path = tmp_path_factory.mktemp('finished') / 'run'
  assert small_run.main(path) == 0
  return path


@pytest.fixture(scope='session')
def compiled(tmp_path_factory):
  """Environment of children that share what they compile."""
  cache = tmp_path_factory.mktemp('compiled')
  return os.environ | {
    'JAX_ENABLE_COMPILATION_CACHE': 'true',
    'JAX_COMPILATION_CACHE_DIR': str(cache),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }
