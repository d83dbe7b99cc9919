"""What methods make of settings, in numbers."""

import dataclasses

import pytest

from experiments.config import schema, stage_table

SETTINGS = schema.Settings(steps_stage1=3, steps_stage2=5)


@pytest.mark.parametrize(
  ('method', 'expected'),
  [
    ('base', []),
    ('score', [
      ('stage1', '3', 'base', 'base', '0, 1', '0, 0', '0', '0.11, 0.01'),
      ('stage2', '5', 'stage1', 'base', '1, 1', '0, 10', '0', '0.01, 0.01'),
    ]),
    ('without_bonus', [
      ('stage1', '3', 'base', 'base', '0, 1', '0, 0', '0', '0.11, 0.01'),
      ('stage2', '5', 'stage1', 'base', '1, 1', '0, 0', '0', '0.01, 0.01'),
    ]),
    ('adaptive_beta2', [
      ('stage1', '3', 'base', 'base', '0, 1', '0, 0', '0',
       '0.01 + beta2, 0.01'),
      ('stage2', '5', 'stage1', 'base', '1, 1', '0, 10', '0', '0.01, 0.01'),
    ]),
    ('discount_08', [
      ('stage2', '8', 'base', 'base', '1, 1', '0, 1', '0.8', '0.01, 0.01'),
    ]),
    ('pag_baseline', [
      ('stage1', '3', 'base', 'base', '1, 1', '0, 0', '0', '0.1, 0'),
      ('stage2', '5', 'stage1', 'base', '1, 1', '0, 1', '0', '0, 0'),
    ]),
    ('multi_turn', [
      ('multi_turn', '8', 'base', 'base', '1, 1', '0, 0', '0', '0.01, 0.01'),
    ]),
    ('pair_sft_plus', [
      ('pair_sft_plus', '8', 'base', '-', 'repairs, right pairs of base', '-',
       '-', '-'),
    ]),
  ],
)  # fmt: skip
def test_rows(method, expected):
  rows = stage_table.rows(dataclasses.replace(SETTINGS, method=method))
  assert rows == expected
  assert all(len(row) == len(stage_table.HEADINGS) for row in rows)
