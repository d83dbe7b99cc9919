"""Where tests find the public data sets: `shared/data` beside the clone."""

import pathlib

import pytest

DATA = pathlib.Path(__file__).resolve().parents[3] / 'shared' / 'data'


def path(name: str) -> pathlib.Path:
  """A file of the shared data; skips the test where it is missing."""
  if not (DATA / name).exists():
    pytest.skip(f'needs shared/data/{name} beside the clone')
  return DATA / name
