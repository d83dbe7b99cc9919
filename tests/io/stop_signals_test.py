"""Signals sent to a real process."""

import pathlib
import signal
import subprocess
import sys

import pytest

from score_jax.io import stop_signals

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOOP = """
import sys, time
from score_jax.io import stop_signals
with stop_signals.StopRequest() as stop:
  for step in range(600):
    print('step', flush=True)
    time.sleep(0.1)
    if stop.is_requested and sys.argv[1] == 'polite':
      print('saved', flush=True)
      sys.exit(stop.exit_code)
"""


def start_loop(manner):
  child = subprocess.Popen(
    [sys.executable, '-c', LOOP, manner],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert child.stdout.readline() == 'step\n'
  return child


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_one_signal_finishes_the_step(number):
  child = start_loop('polite')
  child.send_signal(number)
  output, errors = child.communicate(timeout=30)
  assert output.endswith('saved\n')
  assert child.returncode == 128 + number
  assert f'{number.name}: stopping after this step' in errors


def test_two_signals_end_it_at_once():
  child = start_loop('deaf')
  child.send_signal(signal.SIGINT)
  assert 'once more stops at once' in child.stderr.readline()
  child.send_signal(signal.SIGTERM)
  output, _ = child.communicate(timeout=30)
  assert child.returncode == -signal.SIGTERM
  assert 'saved' not in output


def test_handlers_are_put_back():
  before = signal.getsignal(signal.SIGINT)
  with stop_signals.StopRequest() as stop:
    assert signal.getsignal(signal.SIGINT) != before
    assert not stop.is_requested
    assert stop.exit_code == 0
  assert signal.getsignal(signal.SIGINT) == before
