"""Safetensors written and read by us, and by the library of that name."""

import json
import struct

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from safetensors import numpy as safetensors_numpy

from score_jax.interop import safetensors_files

TENSORS = {
  'b': np.arange(24, dtype=np.float32).reshape(2, 3, 4),
  'a': np.arange(5, dtype=np.float32),
}


def _write(path, tensors=TENSORS, dtype=np.float32, rows=1):
  safetensors_files.write(
    path,
    {name: tensor.shape for name, tensor in tensors.items()},
    dtype,
    lambda name: iter(np.array_split(tensors[name], rows)),
  )


@pytest.mark.parametrize('dtype', [np.float32, jnp.bfloat16, np.float16])
def test_the_library_reads_what_we_write(dtype, tmp_path):
  path = tmp_path / 'x.safetensors'
  _write(path, dtype=dtype, rows=2)
  found = safetensors_numpy.load_file(path)
  assert found.keys() == TENSORS.keys()
  for name, tensor in TENSORS.items():
    assert found[name].dtype == dtype
    np.testing.assert_array_equal(found[name], tensor.astype(dtype))
  with safetensors.safe_open(path, 'numpy') as file:
    assert file.metadata() == {'format': 'pt'}  # else transformers refuses


@pytest.mark.parametrize('dtype', [np.float32, jnp.bfloat16, np.float16])
def test_we_read_what_the_library_writes(dtype, tmp_path):
  path = tmp_path / 'x.safetensors'
  tensors = {name: tensor.astype(dtype) for name, tensor in TENSORS.items()}
  safetensors_numpy.save_file(tensors, path, {'made by': 'us'})
  header = safetensors_files.read_header(path)
  assert header.keys() == TENSORS.keys()
  for name, tensor in tensors.items():
    assert header[name].shape == tensor.shape
    np.testing.assert_array_equal(header[name].read(), tensor)
    np.testing.assert_array_equal(header[name].read(1, 2), tensor[1:2])


def test_row_blocks():
  # 7 rows of 10 bytes, 25 at a time: two rows a block, one in the last.
  blocks = safetensors_files.row_blocks(7, 10, 25)
  assert list(blocks) == [(0, 2), (2, 4), (4, 6), (6, 7)]
  assert list(safetensors_files.row_blocks(2, 100, 25)) == [(0, 1), (1, 2)]
  assert not list(safetensors_files.row_blocks(0, 10))


def test_other_kinds_are_listed_but_not_read(tmp_path):
  path = tmp_path / 'x.safetensors'
  safetensors_numpy.save_file({'a': np.zeros(3, np.int8)}, path)
  assert safetensors_files.read_header(path)['a'].dtype == 'I8'


def test_wrong_numbers_are_not_written(tmp_path):
  with pytest.raises(ValueError, match='b does not have the numbers of its'):
    safetensors_files.write(
      tmp_path / 'x.safetensors',
      {'b': (2, 3)},
      np.float32,
      lambda _: iter([np.zeros((1, 3))]),
    )


def _header(entries):
  text = json.dumps(entries).encode()
  return struct.pack('<Q', len(text)) + text


@pytest.mark.parametrize(
  ('contents', 'message'),
  [
    (b'', 'damaged or cut short .no safetensors header'),
    (b'\x00' * 100, 'damaged or cut short .no safetensors header'),
    (b'\xff' * 100, 'damaged or cut short .no safetensors header'),
    (_header([]) + b'    ', 'damaged or cut short'),
    (_header({'a': {'dtype': 'F32'}}), "damaged or cut short .'data_offsets'"),
    (
      _header({'a': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 4]}}),
      r'damaged or cut short .a has 4 bytes for \[2\]',
    ),
    (
      _header({'a': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}}),
      r'damaged or cut short .\d+ bytes, the header speaks of \d+',
    ),
    (b'<!DOCTYPE html><html>not found</html>', 'damaged or cut short'),
    (
      b'version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n',
      'is a Git LFS pointer, not the weights; run: git lfs pull',
    ),
  ],
)
def test_what_is_no_such_file(contents, message, tmp_path):
  path = tmp_path / 'model.safetensors'
  path.write_bytes(contents)
  with pytest.raises(ValueError, match=message) as error:
    safetensors_files.read_header(path)
  assert str(path) in str(error.value)
