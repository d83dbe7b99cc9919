"""Processes that die, fail, end early or compile for long; real ones."""

import pytest

from tests.support import process_group

# Process 1 does what is said; process 0 waits for it in a collective.
PROGRAM = """
import os, signal, sys, time
import jax
from score_jax import cluster, distributed, heartbeat
heartbeat.LOST_SECONDS = {seconds}
cluster.join()
index = jax.process_index()
distributed.barrier()
{what}
distributed.barrier()
print('went on', flush=True)
"""
KILL = 'if index == {victim}: os.kill(os.getpid(), signal.SIGKILL)'
# The other process is not in a collective, which would raise an error.
ALONE = '\ntime.sleep(60)'
RAISE = 'if index == {victim}: raise ValueError("mine\\nalone")'
COMPILE = """
import jax.numpy as jnp
def long(x, count):
  for i in range(count):
    x = jnp.sin(x @ x.T + i) @ jnp.cos(x)
  return x
begin, count = time.monotonic(), 100
while time.monotonic() - begin < 2 * {seconds}:
  jax.jit(long, static_argnums=1).lower(jnp.ones((8, 8)), count).compile()
  count *= 2
"""


def run(what, seconds=5):
  program = PROGRAM.format(what=what, seconds=seconds)
  return process_group.finish(
    process_group.start('-c', program, devices=1), timeout=120
  )


def assert_told(end, victim, reason):
  """The process ended with its code and one line, which is the last."""
  assert end.returncode == 75, end.errors[-2000:]
  last = end.errors.splitlines()[-1]
  assert last.startswith(f'error: process {victim} (')
  assert reason in last
  assert last.endswith('goes on with what is saved.')
  assert 'went on' not in end.output


@pytest.mark.slow
@pytest.mark.parametrize(
  ('what', 'reason'),
  [
    (KILL, 'has not answered for 5 s'),
    (KILL + ALONE, 'has not answered for 5 s'),
    (RAISE, 'failed (ValueError: mine alone)'),
  ],
)
def test_the_second_process_is_lost(what, reason):
  first, second = run(what.format(victim=1))
  assert_told(first, 1, reason)
  assert 'Traceback' not in first.errors
  if what == RAISE:
    assert second.returncode == 1
    assert second.errors.endswith('ValueError: mine\nalone\n')


@pytest.mark.parametrize(
  ('what', 'reason'),
  [
    (KILL, 'is gone'),
    pytest.param(KILL + ALONE, 'is gone', marks=pytest.mark.slow),
    pytest.param(
      RAISE, 'failed (ValueError: mine alone)', marks=pytest.mark.slow
    ),
  ],
)
def test_the_first_process_is_lost(what, reason):
  """The store of the beats, and jax's own service, die with it."""
  _, second = run(what.format(victim=0))
  assert_told(second, 0, reason)


@pytest.mark.slow
def test_an_error_of_all_is_everybodys_own():
  for end in run('raise ValueError("ours")'):
    assert end.returncode == 1
    assert 'ValueError: ours' in end.errors
    assert 'goes on with what is saved' not in end.errors


@pytest.mark.slow
def test_compiling_for_longer_is_no_loss():
  for end in run(COMPILE.format(seconds=5)):
    assert end.returncode == 0, end.errors[-2000:]
    assert 'went on' in end.output
