"""Deviations from the paper's table, under each reading that it allows."""

import dataclasses
import io

import pytest
from rich import console as rich_console

from experiments.config import command_line, paper_settings, schema

MATH = schema.Settings(task='math')


@pytest.mark.parametrize(
  ('settings', 'deviating'),
  [
    # The defaults: 1500 + 1500 steps and 64 * 8 episodes are readings of 3000
    # and 512.
    (MATH, []),
    (schema.Settings(task='math', steps_stage1=3000, steps_stage2=3000,
                           problems_per_step=512), []),
    # 3000 in Stage I is the paper's per stage; 100 in Stage II is no reading.
    (schema.Settings(task='math', steps_stage1=3000, steps_stage2=100),
     ['steps_stage2']),
    (schema.Settings(task='math', beta2=0.25), ['beta2']),
    (schema.Settings(task='math', normalize_bonus=True), ['normalize_bonus']),
    # Beside MBPP's column; 1500 steps are its 1500.
    (schema.Settings(task='mbpp'),
     ['problems_per_step', 'learning_rate', 'beta2', 'eval_problems']),
  ],
)  # fmt: skip
def test_deviations(settings, deviating):
  assert sorted(paper_settings.deviations(settings)) == sorted(deviating)


def test_the_normalized_bonus_is_said_to_change_nothing():
  assert paper_settings.deviations_in_words(MATH) == []
  settings = dataclasses.replace(MATH, normalize_bonus=True, beta2=0.3)
  listed, remark = paper_settings.deviations_in_words(settings)
  assert listed == ('Not as the paper states it: --normalize-bonus, --beta2.')
  assert remark.startswith('With discount 0, --normalize-bonus makes')
  assert 'alpha = 10, alpha = 0 and multi-turn RL the same' in remark
  console = rich_console.Console(file=io.StringIO(), width=80)
  paper_settings.print_settings(settings, console)
  assert remark in ' '.join(console.file.getvalue().split())


def test_print():
  settings = command_line.parse_settings(['--beta2=0.3'])
  console = rich_console.Console(file=io.StringIO(), width=80)
  paper_settings.print_settings(settings, console)
  lines = console.file.getvalue().splitlines()
  [beta2] = [line for line in lines if '--beta2' in line]
  [alpha] = [line for line in lines if '--alpha' in line]
  assert beta2.split() == ['--beta2', '0.3', '0.1', '0.25', 'differs']
  assert 'differs' not in alpha
  [steps] = [line for line in lines if '--steps-stage1' in line]
  assert '3000 [1]' in steps
  assert any(line.startswith('[1] ') for line in lines)
  # Nothing is cut on a narrow terminal, and what has no effect is left out.
  assert any(
    line.split()[:1] == ['--self-refine-instruction'] for line in lines
  )
  assert any('--model.layers' in line for line in lines)
  assert not any('…' in line for line in lines)


@pytest.mark.parametrize(
  ('preset', 'shown', 'left_out'),
  [
    (
      'gemma2_2b_math',
      ('model.name', 'task'),
      ('model.layers', 'arithmetic.digits', 'aiming.moves', 'pretrain.steps'),
    ),
    (
      'tiny',
      ('arithmetic.digits', 'pretrain.copy_share', 'pretrain.easy_right'),
      ('aiming.moves', 'pretrain.redraw_share'),
    ),
    (
      'aiming',
      ('aiming.moves', 'pretrain.copy_share', 'pretrain.redraw_share'),
      ('arithmetic.digits', 'pretrain.easy_nines', 'pretrain.easy_right'),
    ),
  ],
)
def test_settings_without_effect_are_left_out(preset, shown, left_out):
  settings = command_line.parse_settings([f'--preset={preset}'])
  names = {row.name for row in paper_settings.rows(settings)}
  assert names >= set(shown)
  assert not names & set(left_out)
