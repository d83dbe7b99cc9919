"""The base policy: what it is shown, and that it learns it."""

import dataclasses
import json
import re

import numpy as np

from experiments.config import command_line
from experiments.run import building, run_directory
from experiments.stages import pretraining
from score_jax.tasks import aiming, arithmetic, batches
from tests.support import small_run


def build(path, *more):
  settings = command_line.parse_settings([*small_run.FLAGS, *more])
  directory = run_directory.RunDirectory(path)
  return building.build(settings, building.load_task(settings), directory)


def test_sequences_are_examples_as_the_engine_would_write_them(tmp_path):
  run = build(tmp_path, '--turns=3')
  sequences, loss_mask = pretraining._examples(run, 5)
  assert sequences.tokens.shape[0] == 16
  assert loss_mask.shape == (16, 3)
  assert loss_mask[:, 1:].all()
  assert not loss_mask[:, 0].all()
  assert sequences.finished.all()
  examples = arithmetic.pretraining_examples(
    np.random.default_rng((run.settings.seed, 3, 5)),
    16,
    digits=1,
    copy_hard=run.settings.pretrain.copy_share,
    easy_chain=run.settings.pretrain.easy_nines,
    easy_right=run.settings.pretrain.easy_right,
    held_out=frozenset(
      problem.id for problem in (*run.task.validation, *run.task.test)
    ),
  )
  attempts = run.sampler.attempts(sequences)
  for row, (question, first, second, is_learnt), mask in zip(
    attempts, examples, loss_mask
  ):
    # Every later attempt is the second.
    assert [a.text for a in row] == [first, second, second], question
    assert mask[0] == is_learnt


def test_the_task_makes_the_examples_by_its_settings(tmp_path):
  run = build(
    tmp_path, '--task=aiming', '--aiming.moves=3', '--aiming.modulus=5',
    '--pretrain.copy-share=0.5', '--pretrain.redraw-share=0.25',
  )  # fmt: skip
  sequences, loss_mask = pretraining._examples(run, 2)
  # Both attempts are learnt.
  assert loss_mask.all()
  examples = aiming.pretraining_examples(
    np.random.default_rng((run.settings.seed, 3, 2)),
    16,
    moves=3,
    modulus=5,
    copy_share=0.5,
    redraw_share=0.25,
    held_out=frozenset(
      problem.id for problem in (*run.task.validation, *run.task.test)
    ),
  )
  attempts = [
    tuple(attempt.text for attempt in row)
    for row in run.sampler.attempts(sequences)
  ]
  assert attempts == [(e.first, e.second) for e in examples]


def test_other_tasks_imitate_references(tmp_path):
  run = build(tmp_path)
  task = dataclasses.replace(run.task, pretraining_examples=None)
  run = dataclasses.replace(run, task=task)
  sequences, loss_mask = pretraining._examples(run, 0)
  assert loss_mask.all()
  problems = batches.batch(task.train, 16, run.settings.seed, 0)
  for row, problem in zip(run.sampler.attempts(sequences), problems):
    assert [a.text for a in row] == [problem.reference] * 2


def test_steps_differ_and_a_step_is_always_the_same(tmp_path):
  run = build(tmp_path)
  one, other, again = (
    pretraining._examples(run, step)[0].tokens for step in (0, 1, 0)
  )
  np.testing.assert_array_equal(one, again)
  assert (one != other).any()


def test_the_base_policy_learns(finished):
  records = [
    json.loads(line)
    for line in (finished / 'base' / 'metrics.jsonl').read_text().splitlines()
  ]
  assert [r['step'] for r in records] == list(range(10, 221, 10))
  losses = [r['loss'] for r in records]
  # From log(300) = 5.7 nats a token or so to less than one.
  assert losses[0] > 2
  assert np.mean(losses[-3:]) < 1


def test_it_ends_once_it_is_accurate(tmp_path, capsys):
  more = (
    '--pretrain.until-accuracy=0.05', '--pretrain.least-steps=50',
    '--method=base',
  )  # fmt: skip
  assert small_run.main(tmp_path / 'run', *more) == 0
  said = capsys.readouterr().out
  measured = [
    (float(share), int(number))
    for share, number in re.findall(
      r'([\d.]+)% of the validation problems .* after (\d+) updates', said
    )
  ]
  *before, (share, number) = measured
  assert share >= 5
  assert all(s < 5 for s, _ in before)
  assert [n for _, n in measured] == list(range(50, number + 1, 50))
  assert number < 220
  assert small_run.metrics(tmp_path / 'run', 'base')[-1]['step'] == number
  assert f'its policy is the last, of step {number}' in said
  # Killed before the stage was marked: the same policy, without an update.
  base = run_directory.RunDirectory(tmp_path / 'run').stage('base')
  base.written.remove(base.marker)
  (tmp_path / 'run' / 'results.json').unlink()
  before = small_run.state(tmp_path / 'run', 'base')
  assert small_run.main(tmp_path / 'run', *more) == 0
  after = small_run.state(tmp_path / 'run', 'base')
  for one, other in zip(before, after, strict=True):
    np.testing.assert_array_equal(one, other)


def test_a_criterion_that_cannot_act_is_said_to(tmp_path, capsys):
  more = ('--pretrain.steps=2', '--pretrain.least-steps=2', '--method=base')
  assert small_run.main(tmp_path / 'run', *more) == 0
  said = ' '.join(capsys.readouterr().out.split())
  assert (
    'is not measured before --pretrain.least-steps=2: all 2 updates' in said
  )


def test_no_steps_are_a_policy_too(tmp_path, capsys):
  path = tmp_path / 'run'
  more = ('--pretrain.steps=0', '--steps-stage1=0', '--steps-stage2=0')
  assert small_run.main(path, *more) == 0
  capsys.readouterr()
  assert small_run.main(path, *more) == 0
  assert 'nothing left to do' in ' '.join(capsys.readouterr().out.split())
  base, *others = (
    small_run.state(path, name) for name in ('base', 'stage1', 'stage2')
  )
  for other in others:
    for leaf in base:
      assert any(np.array_equal(leaf, o) for o in other)
