"""Alarms: each where it should be raised, once, and not where it should not."""

import pytest

from experiments.stages import alarms


def raised(name, values, length=10.0):
  """(update, sentence) of the alarms of one metric's values."""
  watched = alarms.Alarms()
  found = []
  for update, value in enumerate(values, start=1):
    metrics = {name: value, 'loss': 0.0}
    metrics.setdefault('length/turn1', length)
    found += [(update, sentence) for sentence in watched.read(metrics)]
  return found


@pytest.mark.parametrize(
  ('name', 'good', 'bad', 'says'),
  [
    ('score/frac_zero_spread', 0.8, 1.0, 'of the problems all samples'),
    ('score/frac_identical', 0.7, 0.99, 'second attempts repeat'),
    ('entropy/turn1', 0.1, 0.0, 'turn 1 are nearly the same'),
    ('kl/turn1', 4.0, 20.0, 'nats a token away'),
    ('length/turn2', 100.0, 5.0, 'shrunk to'),
    ('truncated/turn2', 0.1, 1.0, 'turn 2 are cut off'),
    ('engine/logprob_gap_max', 0.3, 2.5, 'not on-policy'),
  ],
)
def test_raised_once(name, good, bad, says):
  assert raised(name, [good] * 100) == []
  [(update, sentence)] = raised(name, [good] * 40 + [bad] * 60)
  assert says in sentence
  # Not by one bad update, and soon after the tenth.
  assert 41 < update <= 50
  assert raised(name, [good] * 40 + [bad] + [good] * 40) == []


def test_a_window_is_needed():
  assert raised('truncated/turn1', [1.0] * 9) == []
  [(update, _)] = raised('truncated/turn1', [1.0] * 10)
  assert update == 10


def test_a_base_policy_that_repeats_itself_has_time_to_learn():
  assert raised('score/frac_identical', [1.0] * 20 + [0.5] * 80) == []
  [(update, _)] = raised('score/frac_identical', [1.0] * 100)
  assert update == 30


def test_what_is_not_finite_or_not_measured_is_left_out():
  assert raised('truncated/turn1', [None] * 100) == []
