"""Safetensors written by us and read back, and files that are damaged."""

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
def test_what_is_written_is_read(dtype, tmp_path):
  """By the library, whole and by rows."""
  path = tmp_path / 'x.safetensors'
  _write(path, dtype=dtype, rows=2)
  found = safetensors_numpy.load_file(path)
  header = safetensors_files.read_header(path)
  assert found.keys() == header.keys() == TENSORS.keys()
  for name, tensor in TENSORS.items():
    expected = tensor.astype(dtype)
    assert found[name].dtype == header[name].read().dtype == dtype
    assert header[name].shape == tensor.shape
    np.testing.assert_array_equal(found[name], expected)
    np.testing.assert_array_equal(header[name].read(), expected)
    np.testing.assert_array_equal(header[name].read(1, 2), expected[1:2])
  with safetensors.safe_open(path, 'numpy') as file:
    assert file.metadata() == {'format': 'pt'}  # else transformers refuses


def test_other_kinds_are_listed_but_not_read(tmp_path):
  path = tmp_path / 'x.safetensors'
  safetensors_numpy.save_file({'a': np.zeros(3, np.int8)}, path)
  assert safetensors_files.read_header(path)['a'].dtype == 'I8'


def test_wrong_numbers_are_not_written(tmp_path):
  with pytest.raises(ValueError, match='b does not'):
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
  'contents',
  [
    b'',
    b'\x00' * 100,
    b'\xff' * 100,
    _header([]) + b'    ',
    _header({'a': {'dtype': 'F32'}}),
    _header({'a': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 4]}})
    + b'    ',
    _header({'a': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}}),
    b'<!DOCTYPE html><html>not found</html>',
  ],
)
def test_damaged_files_are_rejected(contents, tmp_path):
  path = tmp_path / 'model.safetensors'
  path.write_bytes(contents)
  with pytest.raises(ValueError, match='damaged') as error:
    safetensors_files.read_header(path)
  assert str(path) in str(error.value)


def test_a_git_lfs_pointer(tmp_path):
  path = tmp_path / 'model.safetensors'
  path.write_text('version https://git-lfs.github.com/spec/v1\nsize 2\n')
  with pytest.raises(ValueError, match='git lfs pull'):
    safetensors_files.read_header(path)
