"""The supervised loop, end to end: what it learns from, and resuming."""

import dataclasses
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from experiments.run import building, policies, run_directory
from experiments.stages import collection, sft_stage, stage_recorder
from score_jax.grading import user_rewards
from score_jax.models import lora
from score_jax.rollout import randomness
from score_jax.tasks import batches
from score_jax.training import repair_sequences, train_state
from tests.support import small_run

# Three rounds of two batches and two updates each.
STAR = (
  '--method=star_plus',
  '--steps-stage1=3',
  '--steps-stage2=3',
  '--sft.learning-rate=1e-2',
  '--sft.epochs=None',
)
ROUNDS = ('round1', 'round2', 'round3')


@pytest.fixture(scope='module')
def star(finished, tmp_path_factory):
  """A finished run of three rounds."""
  path = tmp_path_factory.mktemp('star') / 'run'
  small_run.begin_from_base(finished, path, *STAR)
  assert small_run.main(path, *STAR) == 0
  return path


def reopened(path):
  return building.reopen(run_directory.RunDirectory(path))


def test_a_run_leaves_everything_behind(star):
  results = small_run.results(star)
  assert list(results) == ['base', *ROUNDS]
  for name in ROUNDS:
    records = small_run.metrics(star, name)
    assert [r['step'] for r in records] == [1, 2]
    assert all(r['loss'] > 0 and r['skipped'] == 0 for r in records)
    # The checkpoint after both is chosen on the validation problems.
    assert ['eval/acc_t2' in r for r in records] == [False, True]
    pairs = json.loads((star / name / 'pairs.json').read_text())
    # Two batches of 4 problems x 4 samples.
    assert pairs['episodes'] == 32
    assert pairs['found'] == pairs['repairs'] + pairs['both_right'] > 0
    assert json.loads((star / name / 'finished.json').read_text()) == {
      'steps': 2
    }


def test_pairs_are_written_as_given_attempts(star):
  run = reopened(star)
  references = {p.id: p.reference for p in run.task.train}
  lines = (star / 'round1' / 'pairs.jsonl').read_text().splitlines()
  records = [json.loads(line) for line in lines]
  counts = json.loads((star / 'round1' / 'pairs.json').read_text())
  assert len(records) == counts['problems'] > 0
  for record in records:
    assert record['attempt'] == references[record['id']]
    assert record['given_attempt']


def test_it_learns_what_it_imitates(star):
  first = small_run.metrics(star, 'round1')
  assert first[1]['loss'] < first[0]['loss']


def test_episodes_are_sampled_and_graded_as_stored(star):
  run = reopened(star)
  stages = run.stages
  base = policies.stage_policy(run, 'base')
  episodes, score, graded = collection.read(
    run.directory.stage('round1'), stages['round1']
  )
  train = run.task.train
  assert graded.all()
  # The second batch again, by hand.
  index = batches.batch_indices(len(train), 4, seed=0, step=1)
  again = run.sampler.sample(
    run.layout.inference_params(base),
    [train[i] for i in index],
    randomness.stream(0, 'collect', 'base', 1),
    samples_per_problem=4,
  )
  np.testing.assert_array_equal(episodes.tokens[16:], again.tokens)
  np.testing.assert_array_equal(episodes.turn[16:], again.turn)
  assert episodes.problem_index[16:].tolist() == np.repeat(index, 4).tolist()
  for b, row in enumerate(run.sampler.attempts(episodes)):
    reference = train[episodes.problem_index[b]].reference
    assert score[b].tolist() == [float(a.text == reference) for a in row]
  # Later rounds sample with the newest policy, at the problems that follow.
  later, _, _ = collection.read(run.directory.stage('round2'), stages['round2'])
  index = batches.batch_indices(len(train), 4, seed=0, step=2)
  assert later.problem_index[:16].tolist() == np.repeat(index, 4).tolist()
  newest = policies.stage_policy(run, 'round1')
  again = run.sampler.sample(
    run.layout.inference_params(newest),
    [train[i] for i in index],
    randomness.stream(0, 'collect', 'round1', 2),
    samples_per_problem=4,
  )
  np.testing.assert_array_equal(later.tokens[:16], again.tokens)


def test_sequences_are_the_pairs_and_nothing_else(star):
  run = reopened(star)
  stage = run.stages['round1']
  sequences, loss_mask = sft_stage.make_sequences(
    run, run.directory.stage('round1'), stage
  )
  attempts = run.sampler.attempts(sequences)
  train = run.task.train
  for i, (_, second) in enumerate(attempts):
    reference = train[sequences.problem_index[i]].reference
    assert second.text == reference
    assert loss_mask[i].tolist() == [False, True]
  _, score, _ = collection.read(run.directory.stage('round1'), stage)
  # D+: every episode whose second attempt is right.
  assert len(attempts) == int(score[:, 1].sum())


def test_a_round_starts_from_the_base_again(star):
  # Two updates from the base: the same from the stored episodes.
  run = reopened(star)
  stage = run.stages['round2']
  sequences, loss_mask = sft_stage.make_sequences(
    run, run.directory.stage('round2'), stage
  )
  optimizer, update = sft_stage.make_update(run, steps=2)
  base = policies.stage_policy(run, 'base')
  state = train_state.init_state(base, optimizer)
  for step in range(2):
    index = batches.batch_indices(len(loss_mask), 16, seed=0, step=step)
    state, _ = update(
      state, repair_sequences.take(sequences, index), loss_mask[index]
    )
  stored = policies.stage_policy(run, 'round2')
  for one, other in zip(
    jax.tree.leaves(state.params), jax.tree.leaves(stored), strict=True
  ):
    np.testing.assert_array_equal(one, other)


def test_the_same_command_again_has_nothing_to_do(star, capsys):
  assert small_run.main(star, *STAR) == 0
  output = ' '.join(capsys.readouterr().out.split())
  assert 'nothing left to do' in output
  assert 'round3 (STaR, D+)' in output


def states(path):
  run = reopened(path)
  return [
    np.asarray(leaf)
    for name in ROUNDS
    for leaf in jax.tree.leaves(policies.stage_policy(run, name))
  ]


def assert_same(one, other):
  for a, b in zip(states(one), states(other), strict=True):
    np.testing.assert_array_equal(a, b)
  for name in ROUNDS:
    assert small_run.metrics(one, name) == small_run.metrics(other, name)
  assert small_run.results(one) == small_run.results(other)


@pytest.mark.parametrize('where', ['sampling', 'updating'])
def test_a_stopped_round_goes_on(star, tmp_path, monkeypatch, caplog, where):
  path = small_run.copy(star, tmp_path / 'run', 'round2', 'round3')
  results = small_run.results(star)
  results = {name: results[name] for name in ('base', 'round1')}
  run_directory.RunDirectory(path).write_results(results)

  def signal_once(*args):
    os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    if where == 'sampling':
      save = collection._save
      patch.setattr(collection, '_save', lambda *a: (save(*a), signal_once()))
    else:
      recorder = stage_recorder.StageRecorder
      end_step = recorder.end_step
      patch.setattr(
        recorder, 'end_step', lambda *a: (end_step(*a), signal_once())
      )
    assert small_run.main(path, *STAR) == 128 + signal.SIGTERM
  there = sorted(p.name for p in (path / 'round2' / 'collected').iterdir())
  # Batches 2 and 3 are the second round's.
  assert there == ['000002.npz', '000003.npz'][: 1 + (where == 'updating')]
  assert not (path / 'round2' / 'finished.json').exists()
  if where == 'updating':
    assert (path / 'round2' / 'checkpoints' / '1').is_dir()
  # A batch that is damaged in the meantime is sampled again, and is the same.
  batch = path / 'round2' / 'collected' / '000002.npz'
  batch.write_bytes(batch.read_bytes()[:-100])
  assert small_run.main(path, *STAR) == 0
  assert f'{batch} is damaged and sampled again' in caplog.text
  assert_same(star, path)


def test_no_repairs_leave_the_policy_as_it_is(finished, tmp_path, capsys):
  # A reward that is never given: nothing is right.
  reward = tmp_path / 'never.py'
  reward.write_text('def never(attempt):\n  return 0.0\n')
  more = (
    *STAR[:3],
    *(f'--reward={reward}:never', '--correct-from-reward=1', '--sft.rounds=1'),
  )
  path = small_run.begin_from_base(finished, tmp_path / 'run', *more)
  assert small_run.main(path, *more) == 0
  assert '0 repairs and 0 pairs' in capsys.readouterr().out
  run = reopened(path)
  base, after = (
    jax.tree.leaves(policies.stage_policy(run, name))
    for name in ('base', 'round1')
  )
  for one, other in zip(base, after, strict=True):
    np.testing.assert_array_equal(one, other)


def test_pairs_are_of_right_attempts_whatever_is_rewarded(star, tmp_path):
  run = reopened(star)
  stage = run.stages['round1']
  _, score, graded = collection.read(run.directory.stage('round1'), stage)
  never = user_rewards.FunctionGrader(lambda: 0.0)
  grader = user_rewards.RewardGrader(run.task.make_grader(), [(never, 1.0)])
  directory = run_directory.RunDirectory(tmp_path)
  again = dataclasses.replace(run, directory=directory, grader=grader)
  collection.collect(again, 'round1', stage, policies.stage_policy(run, 'base'))
  _, found, also = collection.read(directory.stage('round1'), stage)
  np.testing.assert_array_equal(found, score)
  np.testing.assert_array_equal(also, graded)
  assert score.any()


def test_a_batch_is_graded_while_the_next_one_is_sampled(
  star, tmp_path, monkeypatch
):
  run = reopened(star)
  noted = []
  for name in ('_begin', '_grade'):
    function = getattr(collection, name)

    def note(*args, name=name, function=function):
      noted.append((name, args[3]))
      return function(*args)

    monkeypatch.setattr(collection, name, note)
  directory = run_directory.RunDirectory(tmp_path)
  again = dataclasses.replace(
    run, directory=directory, grader=run.task.make_grader()
  )
  stage = run.stages['round1']
  collection.collect(again, 'round1', stage, policies.stage_policy(run, 'base'))
  assert noted == [('_begin', 0), ('_begin', 1), ('_grade', 0), ('_grade', 1)]


def test_without_validation_problems_the_last_checkpoint_is_taken(star):
  run = reopened(star)
  assert sft_stage._select_by(run) == 'eval/acc_t2'
  # Of fewer than ten training problems none is held out.
  few = dataclasses.replace(
    run, task=dataclasses.replace(run.task, validation=())
  )
  assert sft_stage._select_by(few) == stage_recorder.SELECTION


def test_epochs_bound_the_updates(star):
  run = reopened(star)
  stage = run.stages['round1']

  def updates(pairs, epochs):
    sft = dataclasses.replace(run.settings.sft, epochs=epochs)
    settings = dataclasses.replace(run.settings, sft=sft)
    changed = dataclasses.replace(run, settings=settings)
    return sft_stage._updates(changed, stage, pairs)

  # 16 sequences an update, 2 updates at most.
  assert updates(20, None) == 2
  assert updates(20, 1.0) == 2
  assert updates(16, 1.0) == 1
  assert updates(40, 0.3) == 1
  assert updates(0, None) == 0


def test_such_a_run_cannot_be_made_longer(star, tmp_path, capsys):
  path = tmp_path / 'run'
  shutil.copytree(star, path)
  assert small_run.main(path, *STAR, '--steps-stage2=9') == 2
  assert '--steps-stage2: 3 in the run, 9 now' in capsys.readouterr().err


@pytest.mark.slow
def test_adapters_are_fine_tuned_alone(finished, tmp_path):
  more = (*STAR, '--lora.rank=2', '--sft.rounds=1', '--sft.epochs=0.1')
  path = small_run.begin_from_base(finished, tmp_path / 'run', *more)
  assert small_run.main(path, *more) == 0
  # A tenth of an epoch is one update of the six of the budget.
  assert len(small_run.metrics(path, 'round1')) == 1
  run = reopened(path)
  base, tuned = (
    policies.stage_policy(run, name) for name in ('base', 'round1')
  )
  adapters = jax.tree.leaves(lora.adapters_of(tuned))
  assert adapters
  assert any(np.abs(leaf).max() > 0 for leaf in adapters)
  for one, other in zip(
    jax.tree.leaves(base), jax.tree.leaves(lora.base_of(tuned)), strict=True
  ):
    np.testing.assert_array_equal(one, other)
