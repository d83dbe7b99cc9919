"""Signals sent to a real process."""

import os
import pathlib
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from score_jax import types
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
  assert f'{number.name}: stopping as soon as' in errors


def test_two_signals_end_it_at_once():
  child = start_loop('deaf')
  child.send_signal(signal.SIGINT)
  assert 'once more stops at once' in child.stderr.readline()
  child.send_signal(signal.SIGTERM)
  output, _ = child.communicate(timeout=30)
  assert child.returncode == -signal.SIGTERM
  assert 'saved' not in output


def test_work_in_parts_is_left_between_them():
  called = []
  with stop_signals.StopRequest() as stop:
    with stop.calling(lambda: called.append('ended')):
      pass
    with stop.calling(lambda: called.append('now')):
      stop.check()
      assert called == []
      os.kill(os.getpid(), signal.SIGTERM)
      assert called == ['now']
    with pytest.raises(types.StoppedError):
      stop.check()
    assert stop.exit_code == 128 + signal.SIGTERM


def test_a_signal_ends_the_wait_for_the_devices(monkeypatch):
  def long(x):
    return jax.lax.fori_loop(0, 400, lambda _, y: y @ x, x)

  with stop_signals.StopRequest() as stop:
    stop.wait({'ready': jnp.zeros(2).block_until_ready()})
    result = jax.jit(long)(jnp.eye(512))
    monkeypatch.setattr(
      stop_signals.time,
      'sleep',
      lambda _: os.kill(os.getpid(), signal.SIGTERM),
    )
    with pytest.raises(types.StoppedError):
      stop.wait([result])
    assert stop.exit_code == 128 + signal.SIGTERM


def test_handlers_are_put_back():
  before = signal.getsignal(signal.SIGINT)
  with stop_signals.StopRequest() as stop:
    assert signal.getsignal(signal.SIGINT) != before
    assert not stop.is_requested
    assert stop.exit_code == 0
  assert signal.getsignal(signal.SIGINT) == before
