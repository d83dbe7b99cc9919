"""Impossible settings are named with the flag and the fix."""

import dataclasses
import math

import pytest

from experiments import methods
from experiments.config import checks, groups, schema


@pytest.mark.parametrize(
  ('changes', 'says'),
  [
    ({'stop': ('Q:', '')}, "--stop=('Q:', ''): an empty text"),
    ({'alpha': math.nan}, '--alpha=nan: must be a finite number'),
    ({'beta2': -0.1}, '--beta2=-0.1: must be at least 0'),
    ({'learning_rate': 0.0}, '--learning-rate=0.0: must be more than 0'),
    ({'discount': 1.5}, '--discount=1.5: must be at most 1'),
    ({'turns': 4}, '--turns=4: must be at most 3'),
    ({'seed': 2**31}, 'must be at most 2147483647'),
    # 64 * 8 = 512 sequences; the divisor of 512 nearest to 60 is 64.
    ({'micro_batch': 60}, '; 64 does'),
    ({'micro_batch': 0}, '--micro-batch=0: must be at least 1'),
    # 64 problems; of 8 updates of 8 problems each has 64 sequences.
    ({'updates_per_rollout': 0}, '--updates-per-rollout=0: must be at least'),
    ({'updates_per_rollout': 7}, '--problems-per-step=64; 8 does'),
    ({'updates_per_rollout': 8, 'micro_batch': 33}, 'the 64 sequences'),
    (
      {'rollout': groups.Rollout(parts=5)},
      '--rollout.parts=5: must divide --problems-per-step=64; 4 does',
    ),
    (
      {'rollout': groups.Rollout(parts=2, lag=1)},
      '--rollout.parts=2: must be 1 with --rollout.lag=1',
    ),
    ({'importance_cap': 0.5}, '--importance-cap=0.5: must be at least 1'),
    ({'max_grad_norm': 0.0}, '--max-grad-norm=0.0: must be more than 0'),
    ({'overlong_buffer': 8}, 'belongs to --overlong=penalty'),
    (
      {'overlong_buffer': 513, 'overlong': 'penalty'},
      '--overlong-buffer=513: must be at most --max-attempt-tokens=512',
    ),
    ({'rollout': groups.Rollout(rows=0)}, '--rollout.rows=0: must be at least'),
    ({'optimizer': groups.Optimizer(adam_b1=1.0)}, '--optimizer.adam-b1=1.0'),
    ({'optimizer': groups.Optimizer(adam_b2=1.0)}, '--optimizer.adam-b2=1.0'),
    (
      {'optimizer': groups.Optimizer(warmup_steps=9), 'steps_stage1': 9},
      '--optimizer.warmup-steps=9: must be less than the 9 steps of stage1',
    ),
    ({'given_attempts_share': 1.0}, '--given-attempts-share'),
    ({'given_attempts_share': 0.5, 'turns': 1}, '--given-attempts-share'),
    # 8 samples a problem: eighths.
    (
      {'given_attempts_share': 0.3},
      "--given-attempts-share=0.3: is 2.4 of a problem's 8 episodes "
      '(--samples-per-problem), not a whole number: make it 0.25 or 0.375',
    ),
    ({'given_attempts_share': 0.95}, 'make it 0.875'),
    ({'beta2': 0.0, 'adaptive_beta2': True}, '--beta2=0.0: must be more than'),
    ({'beta2': 0.0, 'method': 'adaptive_beta2'}, '--beta2=0.0'),
    ({'task': 'records'}, '--data.file'),
    ({'task': 'records'}, '--data.test-file'),
    ({'data': groups.Data(file='no/such')}, '--data.file=no/such'),
    ({'task': 'records', 'data': groups.Data(file='no/such')}, 'no such file'),
    ({'correct_from_reward': 0.5}, '--correct-from-reward=0.5: needs a --rew'),
    ({'first_prompt': 'Add {question}'}, '--first-prompt'),
    ({'chat_style': 'gemma'}, '--chat-style=gemma'),
    ({'workers': -3}, '--workers=-3'),
    ({'sandbox': 'none'}, '--i-understand-model-code-runs-unsandboxed'),
    ({'data_dir': 'x'}, '--data-dir=x'),
    ({'task': 'aiming', 'data_dir': '.'}, 'the aiming task reads no data'),
    ({'task': 'word_problems', 'data_dir': '.'}, 'word_problems task reads no'),
    ({'shots': -1, 'task': 'gsm8k'}, '--shots=-1: must be at least 0'),
    ({'shots': 4, 'task': 'mbpp'}, '--shots=4: is for --task=gsm8k or math'),
    ({'preset': 'x', 'init_from': 'x.gguf'}, 'experiments.convert --from=x.gg'),
    ({'task': 'aiming', 'first_prompt': 'x'}, 'the aiming task asks'),
    (
      {'init_from': 'google/gemma-2-2b-it', 'preset': 'gemma2_2b_math'},
      '--init-from=google/gemma-2-2b-it: there is no such directory; pass one '
      'with a Hugging Face checkpoint (config.json, *.safetensors) or an Orbax '
      'one, or a name to download: hf:google/gemma-2-2b-it',
    ),
    (
      {'init_from': 'hf:gemma', 'preset': 'gemma2_2b_math'},
      '--init-from=hf:gemma: is not of the form hf:OWNER/MODEL',
    ),
    ({'preset': 'aiming', 'init_from': '.'}, 'the preset aiming is made for'),
    (
      {
        'task': 'aiming',
        'pretrain': groups.Pretraining(copy_share=0.9, redraw_share=0.2),
      },
      '--pretrain.redraw-share=0.2: must be at most the 0.1 that',
    ),
    ({'run_dir': 'ftp://b'}, '--run-dir=ftp://b: of URLs, only gs:// and s3'),
    ({'run_dir': 'gs://'}, '--run-dir=gs://: names no bucket'),
    (
      {'preset': 'x', 'init_from': 'gs:///'},
      '--init-from=gs:///: is not of the form',
    ),
    ({'task': 'math', 'data_dir': 's3://'}, '--data-dir=s3://: names no'),
    ({'task': 'math', 'data_dir': 'no/such'}, '--data-dir=no/such'),
    ({'model': groups.Model(heads=4, kv_heads=3)}, '--model.kv-heads=3'),
    ({'model': groups.Model(head_dim=15)}, '--model.head-dim=15'),
    ({'model': groups.Model(name='gemma-2-2c')}, 'did you mean gemma-2-2b'),
    ({'lora': groups.LoRA(targets=('q', 'x'))}, '--lora.targets'),
    ({'lora': groups.LoRA(targets=())}, '--lora.targets'),
    ({'task': 'mth'}, 'did you mean math?'),
    ({'method': 'scroe'}, 'did you mean score?'),
    ({'stage': '1a'}, '--turns=2 has only 1, 2'),
    ({'stage': '1', 'turns': 3}, '--turns=3 has only 1a, 1b, 2'),
    ({'stage': '1', 'method': 'without_stage1'}, 'has only 2'),
    ({'stage': '2', 'method': 'multi_turn'}, '--stage=2'),
    ({'stage': '2', 'method': 'base'}, '--stage=2'),
    ({'stage': '1', 'method': 'interleaved'}, '--stage=1'),
    # Three rounds of STaR cannot share two steps.
    (
      {'method': 'star', 'steps_stage1': 1, 'steps_stage2': 1},
      '--sft.rounds',
    ),
    (
      {'method': 'star_stage2', 'steps_stage1': 9, 'steps_stage2': 2},
      '--sft.rounds',
    ),
    (
      {'method': 'pair_sft', 'steps_stage1': 0, 'steps_stage2': 0},
      '--steps-stage2',
    ),
  ],
)
def test_errors(changes, says):
  settings = dataclasses.replace(schema.Settings(), **changes)
  assert says in '\n'.join(checks.find_errors(settings))


@pytest.mark.parametrize('method', methods.METHODS)
def test_turns_of_each_method(method):
  settings = schema.Settings(method=method)
  supervised = methods.METHODS[method].kind == 'supervised'
  possible = [
    turns
    for turns in (1, 2, 3)
    if not checks.find_errors(dataclasses.replace(settings, turns=turns))
  ]
  if method in ('base', 'single_turn'):
    assert possible == [1, 2, 3]
  elif supervised or method == 'star_stage2':
    assert possible == [2]
  else:
    assert possible == [2, 3]


def test_possible_settings_have_no_errors(tmp_path):
  assert checks.find_errors(schema.Settings()) == []
  for share, samples in ((0.375, 8), (0.333, 3), (0.25, 4), (2 / 7, 7)):
    settings = schema.Settings(
      given_attempts_share=share, samples_per_problem=samples
    )
    assert checks.find_errors(settings) == []
  # Where beta2 does not adapt, it may be 0.
  assert checks.find_errors(schema.Settings(beta2=0.0)) == []
  settings = schema.Settings(
    task='gsm8k', data_dir=str(tmp_path), micro_batch=64, alpha=0.0, turns=3
  )
  assert checks.find_errors(settings) == []
  # Shares that add up to 1, and, of other tasks, to whatever.
  shares = groups.Pretraining(copy_share=0.9, redraw_share=0.1)
  settings = schema.Settings(task='aiming', pretrain=shares)
  assert checks.find_errors(settings) == []
  shares = groups.Pretraining(copy_share=0.9, redraw_share=0.2)
  settings = schema.Settings(task='arithmetic', pretrain=shares)
  assert checks.find_errors(settings) == []
  settings = schema.Settings(method='star', steps_stage1=1, steps_stage2=2)
  assert checks.find_errors(settings) == []
