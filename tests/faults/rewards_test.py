"""A user's reward that fails in a whole run: counted, named, and left out.

Whatever a function does instead of returning a number, the run is the one in
which it returns None for the same attempts, bit for bit.
"""

import numpy as np
import pytest

from tests.support import small_run

# Half a minute, and a few seconds for each way to fail.
pytestmark = pytest.mark.slow

SOURCE = """
import threading
import zlib

import numpy as np

def fail():
  raise KeyError('oh')

WAYS = {
  'none': lambda: None,
  'raise': fail,
  'nan': lambda: float('nan'),
  'infinite': lambda: float('inf'),
  'text': lambda: 'good',
  'array': lambda: np.zeros(2),
  'hang': lambda: threading.Event().wait(),
}

def make(way):
  def reward(attempt, question, turn, reference):
    # At some half of the second attempts.
    if turn == 2 and zlib.crc32(f'{question} {attempt}'.encode()) % 2:
      return WAYS[way]()
    return float(attempt == reference)
  return reward

for way in WAYS:
  globals()[way if way != 'raise' else 'raises'] = make(way)
"""
FLAGS = ('--stage=1', '--steps-stage1=2', '--reward-timeout=0.1')


@pytest.fixture(scope='module')
def rewards(tmp_path_factory):
  file = tmp_path_factory.mktemp('rewards') / 'ways.py'
  file.write_text(SOURCE)
  return file


def train(finished, path, rewards, name):
  flags = (*FLAGS, f'--reward={rewards}:{name}')
  small_run.begin_from_base(finished, path, *flags)
  assert small_run.main(path, *flags) == 0
  return small_run.metrics(path, 'stage1')


@pytest.fixture(scope='module')
def left_out(finished, tmp_path_factory, rewards):
  """The run whose function returns None."""
  path = tmp_path_factory.mktemp('none') / 'run'
  records = train(finished, path, rewards, 'none')
  # Not all attempts, and not none.
  assert all(0 < record['reward/ungraded'] < 32 for record in records)
  assert {record['reward/errors'] for record in records} == {0}
  return path


@pytest.mark.parametrize('name', ['raises', 'nan', 'infinite', 'text', 'array'])
def test_failures_are_left_out(
  finished, left_out, tmp_path, rewards, name, caplog
):
  records = train(finished, tmp_path / 'run', rewards, name)
  for record, expected in zip(
    records, small_run.metrics(left_out, 'stage1'), strict=True
  ):
    assert record['reward/errors'] == expected['reward/ungraded']
    # The count is all that tells them apart.
    assert record | {'reward/errors': 0} == expected
  assert 'a reward function failed on' in caplog.text
  assert '; on attempt 2 at problem ' in caplog.text
  states = [small_run.state(p, 'stage1') for p in (tmp_path / 'run', left_out)]
  for one, other in zip(*states, strict=True):
    np.testing.assert_array_equal(one, other)


def test_a_function_that_hangs_is_left_out(finished, tmp_path, rewards, caplog):
  records = train(finished, tmp_path / 'run', rewards, 'hang')
  # Three of a batch are waited for.
  assert all(record['reward/timeouts'] >= 3 for record in records)
  assert 'the function took longer than 0.1 s' in caplog.text
