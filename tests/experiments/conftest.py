"""Whole runs share what they compile, which takes the longest."""

import tempfile

import jax

# Runs of the same sizes compile the same programs: whoever comes second in this
# process reads them. Nobody else does, so that nobody reads half of a file.
_programs = tempfile.TemporaryDirectory(prefix='score_jax_programs_')
jax.config.update('jax_compilation_cache_dir', _programs.name)
jax.config.update('jax_enable_compilation_cache', True)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
