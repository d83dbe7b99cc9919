"""What several runs would make alike is made once; nothing else is shared."""

import dataclasses
import shutil

import numpy as np
import pytest

from experiments import methods, sharing
from experiments.config import command_line
from experiments.run import outcome, run_directory
from tests.support import small_run

pytestmark = pytest.mark.slow


def settings_of(*more):
  return command_line.parse_settings([*small_run.FLAGS, *more])


def recipes(*more):
  return sharing.recipes(settings_of(*more))


def test_methods_share_what_is_the_same():
  score = recipes()
  assert list(score) == ['base', 'stage1', 'stage2']
  for method in methods.METHODS:
    assert recipes(f'--method={method}')['base'] == score['base']
  for method in ('without_bonus', 'star_stage2', 'offline_first_attempts'):
    assert recipes(f'--method={method}')['stage1'] == score['stage1']
  for method in ('discount_08', 'adaptive_beta2'):
    assert recipes(f'--method={method}')['stage1'] != score['stage1']
  others = ('without_bonus', 'without_stage1', 'discount_08')
  for method in (*others, 'offline_first_attempts', 'adaptive_beta2'):
    assert recipes(f'--method={method}')['stage2'] != score['stage2']
  # The rounds of STaR and STaR plus learn from other pairs.
  one, other = recipes('--method=star'), recipes('--method=star_plus')
  assert one['round1'] != other['round1']


# Flags, and the policies that they change.
CHANGES = [
  (('--seed=1',), ['base', 'stage1', 'stage2']),
  (('--pretrain.copy-share=0.5',), ['base', 'stage1', 'stage2']),
  (('--model.width=64',), ['base', 'stage1', 'stage2']),
  (('--instruction=Again',), ['base', 'stage1', 'stage2']),
  (('--learning-rate=1e-3',), ['stage1', 'stage2']),
  (('--samples-per-problem=8',), ['stage1', 'stage2']),
  (('--beta2=0.2',), ['stage1', 'stage2']),
  (('--steps-stage1=3',), ['stage1', 'stage2']),
  (('--checkpoint-every=3',), ['stage1', 'stage2']),
  (('--alpha=5',), ['stage2']),
  (('--steps-stage2=3',), ['stage2']),
  (('--given-attempts-share=0.5',), ['stage2']),
  (('--eval-problems=7', '--workers=1', '--log-samples-every=0'), []),
  (('--sft.rounds=2', '--self-refine-instruction=Mend'), []),
]


@pytest.mark.parametrize(('more', 'changed'), CHANGES)
def test_what_a_setting_changes(more, changed):
  before, after = recipes(), recipes(*more)
  differing = [name for name in before if before[name] != after[name]]
  if more[0] == '--sft.rounds=2':
    # Settings of the supervised loop are counted with all phases, safely.
    assert 'base' not in differing
  else:
    assert differing == changed


def test_samples_are_shared_where_their_policy_is():
  star, plus = (
    sharing.collections(settings_of(f'--method={name}'))
    for name in ('star', 'star_plus')
  )
  pair = sharing.collections(settings_of('--method=pair_sft'))
  assert star['round1'] == plus['round1'] == pair['pair_sft']
  assert star['round2'] != plus['round2']
  hotter = settings_of('--method=star', '--temperature=0.5')
  assert sharing.collections(hotter)['round1'] != star['round1']


def test_adopted_policies_are_the_ones(finished, tmp_path):
  path = tmp_path / 'run'
  more = (f'--run-dir={path}', '--method=without_bonus')
  run = run_directory.RunDirectory(path)
  other = run_directory.RunDirectory(finished)
  assert sharing.adopt(settings_of(*more), run, [other]) == ['base', 'stage1']
  assert list(outcome.read_results(run)) == ['base', 'stage1']
  # Checkpoints are links, everything that may be written to again is not.
  for file in (finished / 'stage1').rglob('*'):
    if file.is_file():
      twin = path / 'stage1' / file.relative_to(finished / 'stage1')
      is_linked = file.stat().st_ino == twin.stat().st_ino
      assert is_linked == ('checkpoints' in twin.parts), twin
  assert small_run.main(path, *more[1:]) == 0
  for one, two in zip(
    small_run.state(path, 'stage1'), small_run.state(finished, 'stage1')
  ):
    np.testing.assert_array_equal(one, two)
  assert list(small_run.results(path)) == ['base', 'stage1', 'stage2']
  # Once more there is nothing to adopt.
  assert sharing.adopt(settings_of(*more), run, [other]) == []


def test_unfinished_and_unevaluated_policies_are_not_adopted(
  finished, tmp_path
):
  other = tmp_path / 'other'
  shutil.copytree(finished, other)
  (other / 'stage1' / 'finished.json').unlink()
  outcome.forget(run_directory.RunDirectory(other), 'base')
  path = tmp_path / 'run'
  settings = settings_of(f'--run-dir={path}', '--method=without_bonus')
  run = run_directory.RunDirectory(path)
  assert sharing.adopt(settings, run, [run_directory.RunDirectory(other)]) == []
  assert not path.exists()


def test_where_there_are_no_links_it_copies(finished, tmp_path, monkeypatch):
  def refuse(*args):
    raise OSError('another file system')

  monkeypatch.setattr(sharing.os, 'link', refuse)
  path = tmp_path / 'run'
  settings = settings_of(f'--run-dir={path}')
  run = run_directory.RunDirectory(path)
  other = run_directory.RunDirectory(finished)
  assert sharing.adopt(settings, run, [other]) == ['base', 'stage1', 'stage2']
  for one, two in zip(
    small_run.state(path, 'stage2'), small_run.state(finished, 'stage2')
  ):
    np.testing.assert_array_equal(one, two)


def test_every_setting_has_its_place():
  # A setting that was renamed would be shared wrongly.
  flat = set(dataclasses.asdict(settings_of()))
  for names in (sharing._IN_PHASES, sharing._AFTER_BASE):
    assert names <= flat
