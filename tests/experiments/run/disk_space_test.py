"""A run that its disk cannot hold is refused before it writes anything."""

import shutil

import pytest

from experiments.config import command_line
from experiments.planning import disk
from experiments.run import context, disk_space, run_directory
from score_jax.models import gemma


def make_run(path, *flags):
  settings = command_line.parse_settings(
    ['--preset=gemma3_270m_gsm8k_colab', '--task=arithmetic', *flags]
  )
  config = gemma.CONFIGS['gemma-3-270m']
  directory = run_directory.RunDirectory(path)
  return context.StoredRun(settings, directory, config, None, None)


def leave(monkeypatch, size):
  """Every disk has so many bytes left."""
  usage = shutil.disk_usage('.')._replace(free=size)
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)


def test_a_run_that_does_not_fit(tmp_path, monkeypatch):
  run = make_run(tmp_path)
  needed = disk.needed(run.settings, run.config)
  leave(monkeypatch, needed.largest + needed.logs)
  disk_space.check(run)
  leave(monkeypatch, needed.largest + needed.logs - 1)
  with pytest.raises(run_directory.RunError) as error:
    disk_space.check(run)
  # 12 bytes of each of 268 million parameters, and 4: twice, and twice.
  for says in (
    'GB left, too few for this run. Disk: a checkpoint 3.2 GB, a policy alone '
    '1.1 GB; at most 8.6 GB at a time',
    '--run-dir=DIR',
    '--lora.rank=16 takes ',
  ):
    assert says in str(error.value)
  # Adapters fit; and what the run has already is not needed again.
  disk_space.check(make_run(tmp_path, '--lora.rank=16'))
  (tmp_path / 'stage1/checkpoints/50').mkdir(parents=True)
  (tmp_path / 'stage1/checkpoints/50/array').write_bytes(b'x')
  disk_space.check(run)


def test_a_dry_run_says_what_is_written(tmp_path):
  run = make_run(tmp_path, f'--init-from={tmp_path}')
  assert 'a checkpoint 3.2 GB' in disk_space.describe(run.settings)
  unknown = command_line.parse_settings(
    ['--preset=gemma2_2b_math', '--model.name=None', f'--init-from={tmp_path}']
  )
  assert 'not known' in disk_space.describe(unknown)
  tiny = command_line.parse_settings(['--preset=tiny'])
  assert 'at most 5.4 MB' in disk_space.describe(tiny)
