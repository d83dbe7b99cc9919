"""Names of slices, and errors where none can be had."""

import importlib.util

import pytest

from experiments.planning import chips


@pytest.mark.parametrize(
  ('name', 'chip', 'shape'),
  [
    ('v5e-1', 'v5e', '1x1'),
    ('v5e-16', 'v5e', '4x4'),
    ('v5e-256', 'v5e', '16x16'),
    ('v6e-8', 'v6e', '2x4'),
    # Cores, two a chip.
    ('v5p-8', 'v5p', '2x2x1'),
    ('v5p-128', 'v5p', '4x4x4'),
    ('v4-8', 'v4', '2x2x1'),
  ],
)
def test_slices(name, chip, shape):
  assert chips.SLICES[name] == (chips.CHIPS[chip], shape)


def test_unknown_slice_lists_them():
  with pytest.raises(chips.TopologyError, match='v5e-8'):
    chips.find('v5e-7')


@pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is not None, reason='has libtpu'
)
def test_without_libtpu_says_what_to_install():
  with pytest.raises(chips.TopologyError, match=r'jax\[tpu\]'):
    chips.find('v5e-8')


@pytest.mark.slow
@pytest.mark.parametrize('name', chips.SLICES)
def test_every_slice_has_its_devices(name):
  pytest.importorskip('libtpu')
  chip, devices = chips.find(name)
  cores = 2 if chip.name in ('v4', 'v5p') else 1
  assert len(devices) == int(name.partition('-')[2]) // cores
