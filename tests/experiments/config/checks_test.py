"""Impossible settings are named with the flag and the mend."""

import dataclasses
import math

import pytest

from experiments.config import checks, schema


@pytest.mark.parametrize(
  ('changes', 'says'),
  [
    ({'alpha': math.nan}, '--alpha=nan: must be a finite number'),
    ({'beta2': -0.1}, '--beta2=-0.1: must be at least 0'),
    ({'learning_rate': 0.0}, '--learning-rate=0.0: must be more than 0'),
    ({'discount': 1.5}, '--discount=1.5: must be at most 1'),
    ({'turns': 4}, '--turns=4: must be at most 3'),
    ({'seed': 2**31}, 'must be at most 2147483647'),
    # 64 * 8 = 512 rows; the divisor of 512 nearest to 60 is 64.
    ({'micro_batch': 60}, 'must divide the 512 rows'),
    ({'micro_batch': 60}, '; 64 does'),
    ({'micro_batch': 0}, '--micro-batch=0: must be at least 1'),
    ({'given_attempts_share': 1.0}, 'must be less than 1'),
    ({'given_attempts_share': 0.5, 'turns': 1}, 'needs --turns=2 or more'),
    ({'task': 'records'}, '--task=records: needs --data.file=FILE'),
    ({'sandbox': 'none'}, '--sandbox=none: none runs what the policy wrote'),
    ({'data_dir': 'x'}, 'the arithmetic task reads no data'),
    ({'task': 'math', 'data_dir': 'no/such'}, 'there is no such directory'),
    (
      {'model': schema.Model(heads=4, kv_heads=3)},
      '--model.kv-heads=3: must divide --model.heads=4',
    ),
    ({'model': schema.Model(head_dim=15)}, 'must be even'),
    ({'stage': '1a'}, '--stage=1a: --turns=2 has only 1, 2'),
    ({'stage': '1', 'turns': 3}, '--stage=1: --turns=3 has only 1a, 1b, 2'),
    # Three rounds of STaR cannot share two steps.
    (
      {'method': 'star', 'steps_stage1': 1, 'steps_stage2': 1},
      '--steps-stage2=1: must be at least 3 together with --steps-stage1',
    ),
    (
      {'method': 'star_stage2', 'steps_stage1': 9, 'steps_stage2': 2},
      '--steps-stage2=2: must be at least 3: --method=star_stage2',
    ),
    (
      {'method': 'pair_sft', 'steps_stage1': 0, 'steps_stage2': 0},
      'must be at least 1 together',
    ),
  ],
)
def test_mistakes(changes, says):
  settings = dataclasses.replace(schema.Settings(), **changes)
  assert says in '\n'.join(checks.find_errors(settings))


def test_possible_settings_have_no_mistakes(tmp_path):
  assert checks.find_errors(schema.Settings()) == []
  settings = schema.Settings(
    task='gsm8k', data_dir=str(tmp_path), micro_batch=64, alpha=0.0, turns=3
  )
  assert checks.find_errors(settings) == []
  settings = schema.Settings(method='star', steps_stage1=1, steps_stage2=2)
  assert checks.find_errors(settings) == []


def test_every_number_has_a_range():
  numbers = {
    name
    for name, value in schema.flatten(schema.Settings()).items()
    if isinstance(value, int | float) and not isinstance(value, bool)
  }
  missing = numbers - set(checks._RANGES)
  assert not missing, (
    f'add ranges for {missing} to experiments/config/checks.py'
  )
