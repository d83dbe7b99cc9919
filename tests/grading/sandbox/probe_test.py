"""The probe finds what leaks, and finds nothing in what holds."""

import struct

import pytest

from score_jax.grading.sandbox import (
  launch,
  probe,
  restrict,
  seccomp,
  tagged_json,
)


@pytest.mark.parametrize('kind', ['bwrap', 'landlock'])
def test_probe_holds(kind):
  lines = probe.probe(launch.Sandbox(kind, launch.interpreters()[0]))
  leaks = [line for line in lines if not line.held]
  if any(line.name == 'starts and answers' for line in leaks):
    pytest.skip(f'{kind} does not start here: {leaks[0].detail}')
  assert leaks == []
  assert len(lines) == 12


def test_probe_finds_the_leaks_of_no_sandbox():
  lines = probe.probe(launch.Sandbox('none', launch.interpreters()[0]))
  leaks = {line.name for line in lines if not line.held}
  assert leaks >= {
    'reads no file of the host',
    'sees no other process',
    'reaches no network',
    'writes no file of the host',
    'signals no other process',
    'starts few processes',
    'leaves no process',
    'leaves no file',
  }


def test_some_sandbox_is_chosen():
  assert probe.choose().kind in ('bwrap', 'landlock')


def test_unknown_sandbox_is_rejected():
  with pytest.raises(ValueError, match='chroot'):
    probe.choose('chroot')


def test_no_sandbox_is_only_taken_when_named_and_says_so(caplog):
  probe.choose.cache_clear()
  assert probe.choose('none').kind == 'none'
  assert 'WITHOUT a sandbox' in caplog.text


def test_landlock_version_is_read():
  assert restrict.landlock_version() >= 0


@pytest.mark.parametrize('threads_only', [False, True])
def test_filter_jumps_stay_inside_it(threads_only):
  program = seccomp.filter_program(threads_only=threads_only)
  instructions = list(struct.iter_unpack('<HBBI', program))
  for index, (code, if_true, if_false, _) in enumerate(instructions):
    if code & 0x07 == 0x05:
      assert index + 1 + max(if_true, if_false) < len(instructions)


SAMPLES = [
  None,
  True,
  -(2**70),
  1.5,
  float('inf'),
  1 + 2j,
  'é\ud800',
  b'\xff',
  bytearray(b'a'),
  [1, [2, (3,)]],
  {'a': {1: (None,)}, 2: set()},
  {1, 2},
  frozenset({'a'}),
  range(1, 9, 2),
  int,
]


@pytest.mark.parametrize('value', SAMPLES, ids=repr)
def test_values_come_out_as_they_went_in(value):
  data = tagged_json.Encoder(lambda held: ['h', 0, False]).encode(value)
  result = tagged_json.decode(data, lambda held: held)
  assert result == value
  assert type(result) is type(value)


@pytest.mark.parametrize(
  'data',
  [
    ['?', 1],
    [],
    [1, 2],
    {'a': 1},
    ['y', 'eval'],
    ['y', 'memoryview'],
    ['s', ['l']],
    ['d', [1]],
    ['i', 'f' * 2_000_000],
    ['r', 'a', 'b', 'c'],
  ],
  ids=str,
)
def test_other_data_is_rejected(data):
  with pytest.raises((ValueError, TypeError)):
    tagged_json.decode(data, lambda held: held)


def test_depth_is_limited():
  data = value = None
  for _ in range(300):
    data, value = ['l', data], [value]
  with pytest.raises(tagged_json.ValueTooLargeError):
    tagged_json.decode(data, None)
  with pytest.raises(tagged_json.ValueTooLargeError):
    tagged_json.Encoder(None).encode(value)
