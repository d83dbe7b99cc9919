"""What results depend on beside the settings: versions, and variables."""

import importlib.metadata
import os
import platform

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
_VARIABLES = ('LIBTPU_INIT_ARGS', 'XLA_FLAGS')


def versions() -> dict[str, str]:
  """Versions of Python and of the packages that results depend on."""
  return {
    'python': platform.python_version(),
    **{name: importlib.metadata.version(name) for name in _PACKAGES},
  }


def variables() -> dict[str, str]:
  """Variables that change what is compiled, by name, as far as they are set."""
  return {name: os.environ[name] for name in _VARIABLES if name in os.environ}
