"""What is off by default: overlong rules, dropped problems, mini-batches."""

import json
import shutil
import types as python_types

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.config import command_line
from experiments.run import run_directory
from experiments.stages import rl_stage
from score_jax import arrays
from score_jax.io import json_files
from tests.support import small_run

# Two samples of limits 4 and 4: attempts of 4 (cut off) and 2 tokens, and of 3
# and 4, the last of them its stop token.
TRAJECTORY = arrays.Trajectory(
  tokens=jnp.zeros((2, 10), jnp.int32),
  turn=jnp.array(
    [[0, 1, 1, 1, 1, 0, 2, 2, 0, 0], [0, 1, 1, 1, 0, 2, 2, 2, 2, 0]]
  ),
  sampled=jnp.array([[True, True], [False, True]]),
  logprobs=jnp.zeros((2, 10)),
  length=jnp.array([8, 9]),
  finished=jnp.array([[False, True], [True, True]]),
  problem_index=jnp.zeros(2, jnp.int32),
)
SCORE = np.array([[1, 0], [0, 1]], np.float32)
ALL_ON = (
  '--updates-per-rollout=2',
  '--importance-cap=1.5',
  '--optimizer.schedule=cosine',
  '--optimizer.warmup-steps=1',
  '--optimizer.weight-decay=0.1',
  '--overlong=penalty',
  '--drop-zero-spread',
)


def run_of(*flags):
  """All that these functions read of a run."""
  return python_types.SimpleNamespace(
    settings=command_line.parse_settings([*small_run.FLAGS, *flags]),
    sampler=python_types.SimpleNamespace(max_new_tokens=(4, 4)),
  )


def test_attempts_that_are_cut_off_are_graded_as_they_stand():
  run = run_of()
  assert rl_stage.penalise_length(run, TRAJECTORY, SCORE) is SCORE
  learning = rl_stage.learning_attempts(run, TRAJECTORY)
  assert learning.tolist() == [[True, True], [False, True]]


def test_attempts_that_are_cut_off_are_masked():
  learning = rl_stage.learning_attempts(run_of('--overlong=mask'), TRAJECTORY)
  assert learning.tolist() == [[False, True], [False, True]]


def test_long_attempts_pay():
  # A fifth of 4 tokens is less than one: the last one.
  paid = rl_stage.penalise_length(
    run_of('--overlong=penalty'), TRAJECTORY, SCORE
  )
  np.testing.assert_array_equal(paid, [[0, 0], [0, 0]])
  paid = rl_stage.penalise_length(
    run_of('--overlong=penalty', '--overlong-buffer=2'), TRAJECTORY, SCORE
  )
  np.testing.assert_array_equal(paid, [[0, 0], [-0.5, 0]])


def test_problems_without_spread_are_dropped():
  reward = jnp.array([[1.0, 2]] * 4 + [[1, 2], [1, 3], [1, 2], [1, 2]])
  valid = jnp.ones((8, 2), bool)
  assert rl_stage.kept_sequences(run_of(), reward, valid) is None
  run = run_of('--drop-zero-spread')
  kept = rl_stage.kept_sequences(run, reward, valid)
  assert kept.tolist() == [False] * 4 + [True] * 4
  # The one that differs failed to be graded.
  kept = rl_stage.kept_sequences(run, reward, valid.at[5, 1].set(False))
  assert not kept.any()


@pytest.fixture(scope='module')
def everything(finished, tmp_path_factory):
  """A run of one stage of eight steps with all of it on."""
  more = ('--method=multi_turn', *ALL_ON)
  path = tmp_path_factory.mktemp('extensions') / 'run'
  small_run.begin_from_base(finished, path, *more)
  assert small_run.main(path, *more) == 0
  return path, more


def test_a_step_is_one_rollout(everything):
  path, _ = everything
  records = small_run.metrics(path, 'multi_turn')
  assert [record['step'] for record in records] == [*range(1, 9)]
  for record in records:
    # Rounding is all that sampler and first update differ by.
    assert record['engine/logprob_gap_max'] < 1e-4
    assert 0 < record['importance/mean'] < 1.5
    assert 0 <= record['importance/truncated'] < 1
    assert record['skipped'] == 0
  # The very first update has learning rate 0: the second one's policy is still
  # the one that sampled. Later it is not.
  weights = [record['importance/mean'] for record in records]
  assert weights[0] == pytest.approx(1, abs=1e-5)
  assert abs(weights[4] - 1) > 1e-6


def test_resumed_bit_for_bit(everything, tmp_path):
  path, more = everything
  killed = small_run.copy(path, tmp_path / 'run')
  stage = killed / 'multi_turn'
  # As a run is that was killed in its seventh step.
  shutil.rmtree(stage / 'checkpoints' / '8')
  directory = run_directory.RunDirectory(killed).stage(stage.name)
  directory.written.remove(directory.marker)
  records = list(json_files.read_lines(stage / 'metrics.jsonl'))
  (stage / 'metrics.jsonl').write_text(
    ''.join(json.dumps(record) + '\n' for record in records[:7])
  )
  assert small_run.main(killed, *more) == 0
  small_run.assert_same(path, killed, ('multi_turn',))


def test_a_stage_whose_learning_rate_falls_is_not_made_longer(
  everything, capsys
):
  path, more = everything
  assert small_run.main(path, *more, '--steps-stage2=6') == 2
  assert '--steps-stage2: 4 in the run, 6 now' in capsys.readouterr().err
