"""Finds the devices of this process, or says what to do without any."""

import jax

from experiments.run import run_directory

# By the first platform of JAX_PLATFORMS, which launch/with.sh sets.
_FIXES = {
  'tpu': (
    'a TPU VM shows its chips as /dev/accel* or /dev/vfio/*, and one program '
    'at a time holds them: end the other'
  ),
  'cuda': (
    'nvidia-smi must list a GPU and a driver of version 525 or newer; in a '
    'container, start it with its GPUs'
  ),
}


def devices() -> list[jax.Device]:
  """All devices of the joined processes, as `jax.devices` gives them.

  Raises:
    RunError: an accelerator that JAX_PLATFORMS names does not start; says what
      to look at, and how to go on with the CPU.
  """
  platform = (jax.config.jax_platforms or '').partition(',')[0]
  try:
    # By name: CUDA's plugin only logs that it fails, and jax then goes on to
    # the next platform.
    return jax.devices(platform or None)
  except RuntimeError as error:
    fix = _FIXES.get(platform, 'see what jax says of this platform')
    raise run_directory.RunError(
      f'no device of JAX_PLATFORMS={jax.config.jax_platforms} works here '
      f'({error}): {fix}. With JAX_PLATFORMS=cpu before the command, it '
      'computes on the CPU'
    ) from error
