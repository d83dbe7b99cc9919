"""Damage outside checkpoints: nothing wrong is loaded without a word.

Every file of a run directory is damaged in turn, and every command run on it:
it ends as with the undamaged run, or the file is named in a line.
"""

import json
import shutil

import pytest

from experiments.run import damage, run_directory


def _flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


DAMAGES = {
  'flip': _flip,
  'truncate': lambda path: path.write_bytes(
    path.read_bytes()[: path.stat().st_size // 2]
  ),
  'empty': lambda path: path.write_bytes(b''),
  'remove': lambda path: path.unlink(),
}


def files_with_digests(run):
  """Paths, in a run, of the files that damage is found of."""
  for digests in sorted(run.rglob('written.json')):
    noted = json.loads(digests.read_text())
    for name in (*noted['files'], *noted['logs']):
      yield str((digests.parent / name).relative_to(run))


@pytest.fixture
def copied(finished, tmp_path):
  return shutil.copytree(finished, tmp_path / 'run')


def test_what_a_run_has_written_has_digests(finished):
  assert sorted(files_with_digests(finished)) == [
    'base/evaluation.jsonl',
    'base/finished.json',
    'base/metrics.jsonl',
    'base/samples.jsonl',
    'config.json',
    'results.json',
    *[
      f'{stage}/{name}'
      for stage in ('stage1', 'stage2')
      for name in (
        'evaluation.jsonl', 'finished.json', 'metrics.jsonl', 'samples.jsonl'
      )
    ],
    'tokenizer.model',
  ]  # fmt: skip


@pytest.mark.parametrize('how', DAMAGES)
def test_every_damaged_file_is_named(copied, how, caplog):
  directory = run_directory.RunDirectory(copied)
  damage.check(directory)
  assert not caplog.text
  for name in files_with_digests(copied):
    path = copied / name
    before = path.read_bytes()
    if not before:
      # No samples of the base policy: there is nothing to lose.
      continue
    DAMAGES[how](path)
    caplog.clear()
    if name == 'tokenizer.model':
      with pytest.raises(run_directory.RunError, match=str(path)):
        damage.check(directory)
    else:
      damage.check(directory)
      assert caplog.text.count(str(path)) == 1, name
    path.write_bytes(before)
