"""Small programs side by side, and the work that they are given."""

import dataclasses
import sys

import numpy as np
import pytest

from experiments.benchmarks import side_by_side, workload
from experiments.benchmarks.baselines import ours
from score_jax.interop import checkpoint_formats

_PROGRAM = """
from experiments.benchmarks import serving
def make():
  kept = []
  def run():
    print('what a library says')
    kept.append(b'x' * {size})
    kept.pop()
  return run
serving.serve(make)
"""


def _command(size):
  return [sys.executable, '-c', _PROGRAM.format(size=size)]


def test_runs_are_counted_and_memory_is_each_ones_own():
  results = side_by_side.run_in_turns(
    {'small': _command(8), 'large': _command(2**26)}, 2
  )
  assert list(results) == ['small', 'large']
  small, large = results.values()
  assert len(small.cpu) == len(large.wall) == 2
  used = [max(r.peak) - min(r.libraries) for r in (small, large)]
  assert used[0] < 2**24
  assert 0.99 * 2**26 <= used[1] < 2**26 + 2**24


def test_a_program_that_cannot_run_is_named_and_left_out(capsys):
  broken = [sys.executable, '-c', 'raise ImportError("no such peer")']
  results = side_by_side.run_in_turns(
    {'broken': broken, 'small': _command(8)}, 1
  )
  assert list(results) == ['small']
  assert 'broken ended: ImportError' in capsys.readouterr().out


def test_ratios_by_hand(capsys):
  # 3 s are 1.5 times 2 s; 60 above 10 are half of 110 above 10.
  ours = side_by_side.Result([2.0], [2.0], [60], [10])
  peer = side_by_side.Result([3.0, 9.0, 1.0], [3.0] * 3, [110], [10])
  side_by_side.print_table({'ours': ours, 'peer': peer}, 1, 1.0, 1.0)
  out = capsys.readouterr().out
  assert '1.50 x' in out
  assert '50%' in out


def test_attempts_are_a_third_of_the_limit_on_average():
  work = workload.Workload(rows=4096, limit=60)
  lengths = work.attempt_lengths()
  assert lengths.min() >= 1
  assert lengths.max() == 60
  # Cut at the limit, a geometric mean of 20 becomes
  # 20 * (1 - (1 - 1/20)^60) = 19.08; its deviation is below 19.5 / sqrt(8192).
  assert lengths.mean() == pytest.approx(19.08, abs=1.0)


def test_attempts_as_long_as_solutions_of_math():
  # Half of them have at most 405 characters, a tenth at least 1,085.
  work = workload.Workload(rows=4096, limit=512, lengths='math')
  lengths = work.attempt_lengths()
  assert lengths.min() >= 26 / 4
  assert lengths.max() == 512
  assert np.median(lengths) == pytest.approx(405 / 4, rel=0.04)
  assert np.quantile(lengths, 0.9) == pytest.approx(1085 / 4, rel=0.06)
  # Scaled: a quarter of the limit, a quarter of the length.
  quarter = dataclasses.replace(work, limit=128).attempt_lengths()
  np.testing.assert_allclose(quarter, lengths / 4, atol=1)


def test_sequences_hold_prompt_attempts_and_instruction():
  work = workload.Workload(rows=16, prompt=5, limit=9, instruction=3)
  tokens, turn = work.episodes()
  for row, (first, second) in enumerate(work.attempt_lengths()):
    whose = [0] * 5 + [1] * first + [0] * 3 + [2] * second
    np.testing.assert_array_equal(turn[row, : len(whose)], whose)
    assert not turn[row, len(whose) :].any()
    assert tokens[row, 5 + first - 1] == workload.STOP
    assert tokens[row, len(whose) - 1] == workload.STOP
    assert (tokens[row, len(whose) :] == workload.PAD).all()


def test_floats_by_hand():
  # One layer of width 2, one head of 2, mlp 3: attention 2 * 2 * (1 + 1) * 2 =
  # 16 weights, mlp 3 * 2 * 3 = 18. One row of 1 + 1 + 2 attempt tokens = 4.
  work = workload.Workload(
    rows=1, samples=1, prompt=1, limit=1, instruction=1, layers=1, width=2,
    heads=1, kv_heads=1, head_dim=2, mlp=3, vocab=7,
  )  # fmt: skip
  assert work.weights == 34
  # Weights 34 * 4, logits 2 * 7 * 2, attention 2 * 1 * 1 * 2 * (4^2 / 2).
  assert work.rollout_floats() == 2 * (136 + 28 + 32)
  assert work.update_floats(reference=False) == 3 * 2 * (136 + 28 + 32)


def test_a_published_shape_is_the_models():
  settings = side_by_side.Settings(model='gemma-3-1b', rows=8)
  work = workload.Workload.from_json(settings.work().to_json())
  assert (work.layers, work.width, work.vocab) == (26, 1152, 262_144)
  # The root of the head dimension is what None stands for.
  expected = checkpoint_formats.named_config('gemma-3-1b')
  assert ours.model(work) == dataclasses.replace(
    expected, query_scale=256**-0.5
  )
  # Other attention and feed-forward sizes: 26.8M weights a layer.
  assert work.weights == 26 * (2 * 1152 * 5 * 256 + 3 * 1152 * 6912)


def test_seconds_and_memory_of_an_accelerator(capsys):
  base = side_by_side.Result([9.0], [2.0], [1], [1], [2**20 * 30])
  peer = side_by_side.Result([1.0], [5.0], [1], [1], [2**20 * 60])
  side_by_side.print_table({'ours': base, 'peer': peer}, 100, 8e12, 1.0)
  out = capsys.readouterr().out
  assert '| ours | 2.000 (2.000 to 2.000) | 50 | 4.0 | 30 |' in out
  assert '2.50 x the seconds of ours, whose memory is 50%' in out
