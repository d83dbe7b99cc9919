"""What all tests of whole runs share, because it takes the longest."""

import os
import tempfile

import jax
import pytest

from tests.support import small_run

# Runs of the same sizes compile the same programs: whoever comes second in this
# process reads them. Nobody else does, so that nobody reads half of a file.
_programs = tempfile.TemporaryDirectory(prefix='score_jax_programs_')
jax.config.update('jax_compilation_cache_dir', _programs.name)
jax.config.update('jax_enable_compilation_cache', True)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


@pytest.fixture(scope='session')
def finished(tmp_path_factory):
  """The directory of a finished small run; tests leave it as it is."""
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
