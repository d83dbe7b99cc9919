"""One finished run for all tests of whole runs: it takes the longest."""

import pytest

from tests.experiments import small_run


@pytest.fixture(scope='session')
def finished(tmp_path_factory):
  """The directory of a finished small run; tests leave it as it is."""
  path = tmp_path_factory.mktemp('finished') / 'run'
  assert small_run.main(path) == 0
  return path
