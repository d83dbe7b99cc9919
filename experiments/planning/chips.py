"""TPU chips and slices: what a chip can do, and how to name a slice of them.

Figures a chip, from Google's pages 'TPU v4', 'TPU v5e', 'TPU v5p' and 'TPU v6e'
(cloud.google.com/tpu/docs/v4 and so on). Memory is what the compiler lets a
program have, a little less than what is on the chip.
"""

import dataclasses
import math
import os
from typing import Any

from jax.experimental import topologies

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One chip, which is one device of jax.

  Attributes:
    name: as in the names of slices.
    flops: peak of bfloat16 matrix products, per second.
    memory: bytes of main memory (HBM) that programs may use.
    bandwidth: of main memory, bytes per second.
  """

  name: str
  flops: float
  memory: float
  bandwidth: float


CHIPS = {
  'v4': Chip('v4', 275e12, 30.75 * _GIB, 1228e9),
  'v5e': Chip('v5e', 197e12, 15.75 * _GIB, 819e9),
  'v5p': Chip('v5p', 459e12, 95.74 * _GIB, 2765e9),
  'v6e': Chip('v6e', 918e12, 31.25 * _GIB, 1600e9),
}

# A slice's name counts chips, but cores, two a chip, for v4 and v5p.
_CORES = {'v4': 2, 'v5p': 2, 'v5e': 1, 'v6e': 1}
_FLAT = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_CUBES = (
  *('2x2x1', '2x2x2', '2x2x4', '2x4x4'),
  *('4x4x4', '4x4x8', '4x8x8', '8x8x8'),
)
_SHAPES = {'v4': _CUBES, 'v5p': _CUBES, 'v5e': _FLAT, 'v6e': _FLAT}
# What libtpu calls them.
_PLATFORM_NAMES = {'v5p': 'v5'}


class TopologyError(ValueError):
  """No slice has the name, or libtpu is not installed."""


def count(shape: str) -> int:
  """Chips of a slice's shape, such as 2x4."""
  return math.prod(int(n) for n in shape.split('x'))


# Name of a slice -> chip and shape.
SLICES = {
  f'{name}-{_CORES[name] * count(shape)}': (CHIPS[name], shape)
  for name, shapes in _SHAPES.items()
  for shape in shapes
}

# So that libtpu neither asks a metadata server nor rejects a second process.
_ENVIRONMENT = {
  'TPU_SKIP_MDS_QUERY': '1',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  'TPU_MIN_LOG_LEVEL': '3',
  'TPU_STDERR_LOG_LEVEL': '3',
}


def find(name: str) -> tuple[Chip, list[Any]]:
  """Chip and devices of a slice; the devices compile, but run nothing.

  Raises:
    TopologyError: no slice has this name, or libtpu is not installed.
  """
  if name not in SLICES:
    raise TopologyError(
      f'--topology={name} is not one of {", ".join(SLICES)}. v4 and v5p count '
      'cores, two a chip: a v5p-8 has 4 chips'
    )
  chip, shape = SLICES[name]
  for key, value in _ENVIRONMENT.items():
    os.environ.setdefault(key, value)
  options = {}
  if count(shape) == 1:
    options['chips_per_host_bounds'] = (1, 1, 1)
  if chip.name == 'v4':  # else its cores are devices
    options['chip_config_name'] = 'megacore'
  platform_name = _PLATFORM_NAMES.get(chip.name, chip.name)
  try:
    topology = topologies.get_topology_desc(
      platform='tpu', topology_name=f'{platform_name}:{shape}', **options
    )
  except RuntimeError as error:
    raise TopologyError(
      "the TPU compiler is missing; it comes with: pip install 'jax[tpu]' (no "
      f'TPU is needed). The error: {error}'
    ) from error
  return chip, list(topology.devices)
