"""Parts of a run: tokenizer, model, buckets, what does not fit."""

import json
import logging

import numpy as np
import pytest

from experiments.config import command_line
from experiments.run import building, run_directory
from experiments.stages import rl_stage
from tests.support import small_run


def settings_of(*more):
  return command_line.parse_settings([*small_run.FLAGS, *more])


def build(path, *more):
  settings = settings_of(*more)
  path.mkdir(exist_ok=True)
  directory = run_directory.RunDirectory(path)
  return building.build(settings, building.load_task(settings), directory)


def test_the_parts_are_what_the_settings_say(tmp_path):
  run = build(tmp_path, '--model.layers=2', '--turns=3')
  assert run.config.num_layers == 2
  assert run.config.width == 32
  assert run.config.mlp_width == 32
  tokenizer = run.sampler.chat_format.tokenizer
  assert run.config.vocab_size == tokenizer.vocab_size
  assert run.sampler.max_new_tokens == (4, 4, 4)
  # BOS, '1+2' and a line break.
  assert run.sampler.buckets == (8,)


def test_stop_texts_reach_whatever_samples(tmp_path):
  run = build(tmp_path, '--stop', 'Q:', '\n\n')
  assert run.chat_format.stop_texts == ('Q:', '\n\n')
  assert run.sampler.chat_format is run.chat_format
  assert build(tmp_path).chat_format.stop_texts == ()


def test_the_tokenizer_is_made_once_and_kept(tmp_path):
  build(tmp_path)
  made = (tmp_path / 'tokenizer.model').read_bytes()
  names = sorted(p.name for p in tmp_path.iterdir())
  assert names == ['tokenizer.model', 'written.json']
  build(tmp_path)
  assert (tmp_path / 'tokenizer.model').read_bytes() == made
  # Another directory gets the same one.
  build(tmp_path / 'other')
  assert (tmp_path / 'other' / 'tokenizer.model').read_bytes() == made


def test_numbers_are_single_digits(tmp_path):
  tokenizer = build(tmp_path).sampler.chat_format.tokenizer
  assert len(tokenizer.encode('12+345')) == 6
  assert tokenizer.decode(tokenizer.encode('12+345')) == '12+345'


def test_problems_with_long_prompts_are_left_out(tmp_path, caplog):
  # '1+2' is 5 tokens with BOS and line break; of two digits' sums are 7.
  with caplog.at_level(logging.WARNING):
    run = build(tmp_path, '--max-prompt-tokens=5')
  assert not caplog.records
  assert len(run.task.test) == 10
  with pytest.raises(run_directory.RunError, match='half of them have at'):
    build(tmp_path, '--max-prompt-tokens=4')


def test_too_few_sums_are_rejected():
  settings = settings_of('--arithmetic.nines=1')
  # One held-out problem of ten, nine to train on: few, but there.
  assert len(building.load_task(settings).test) == 1


@pytest.mark.parametrize('seed', [1, 2])
def test_seeds_share_the_test_problems(seed):
  one = building.digests(building.load_task(settings_of()))
  other = building.digests(building.load_task(settings_of(f'--seed={seed}')))
  assert one['test'] == other['test']
  assert one['train'] != other['train']


def test_digests_see_references():
  task = building.load_task(settings_of())
  digests = building.digests(task)
  assert digests == building.digests(task)
  assert digests['train'] != digests['test']
  assert all(len(digest) == 16 for digest in digests.values())


def test_a_reward_that_was_edited_is_another_run(tmp_path):
  reward = tmp_path / 'reward.py'
  reward.write_text('def right(attempt):\n  return 1.0\n')
  settings = settings_of(f'--reward={reward}:right@0.5')
  directory = run_directory.RunDirectory(tmp_path / 'run')
  with directory.lock():
    building.start(settings, directory)
    directory.write_results({'base': {}})
    building.start(settings, directory)
    # Who only reads the run does not need it.
    reward.unlink()
    building.reopen(directory)
    reward.write_text('def right(attempt):\n  return 0.0\n')
    with pytest.raises(run_directory.RunError) as error:
      building.start(settings, directory)
  assert f'with other data: reward {reward} has digest' in str(error.value)


def test_updates_are_shared_by_settings(tmp_path):
  def update(*flags, steps=4):
    return rl_stage.make_update(build(tmp_path, *flags), steps)

  one = update()
  # Alpha, betas and the number of steps enter as arrays, or not at all.
  assert update('--alpha=3', '--beta1=1', '--steps-stage1=9') is one
  assert update('--optimizer.warmup-steps=2', steps=8) is update(
    '--optimizer.warmup-steps=2', steps=9
  )
  # A falling learning rate is another program for each length of stage.
  falling = update('--optimizer.schedule=cosine', steps=8)
  assert update('--optimizer.schedule=cosine', steps=8) is falling
  assert update('--optimizer.schedule=cosine', steps=9) is not falling
  for flag in ('--kl=k3', '--micro-batch=4', '--learning-rate=1', '--seed=1'):
    assert (update(flag) is one) == (flag == '--seed=1')


def test_reopening_changes_nothing(finished):
  before = sorted(p for p in finished.rglob('*'))
  run = building.reopen(run_directory.RunDirectory(finished))
  assert sorted(p for p in finished.rglob('*')) == before
  assert run.settings.arithmetic.digits == 1
  np.testing.assert_array_equal(run.sampler.max_new_tokens, [4, 4])


def test_measuring_on_problems_that_there_are_not(tmp_path, capsys):
  rows = [{'question': f'{i}+1=', 'reference': str(i + 1)} for i in range(9)]
  data = tmp_path / 'data.jsonl'
  data.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  more = (
    '--task=records', f'--data.file={data}', f'--data.test-file={data}',
    '--data.grader=number', '--max-prompt-tokens=512', '--eval-every=2',
  )  # fmt: skip
  assert small_run.main(tmp_path / 'run', *more) == 2
  said = capsys.readouterr().err
  assert '--eval-every=2: of 9 training problems a tenth is none' in said
  assert not (tmp_path / 'run' / 'config.json').exists()
