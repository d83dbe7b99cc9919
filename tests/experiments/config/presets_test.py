"""Every preset can be printed, and reads as the document that it is."""

import shlex

import pytest

from experiments import train
from experiments.config import command_line


@pytest.mark.parametrize('name', command_line.preset_names())
def test_dry_run(name, capsys):
  assert train.main([f'--preset={name}', '--dry-run']) == 0
  said = capsys.readouterr().out
  assert f'Preset {name}' in said
  assert 'settings differ from the paper' in said


@pytest.mark.parametrize('name', command_line.preset_names())
def test_a_document(name):
  settings, document = command_line.load_preset(name)
  for part in ('What: ', 'Base policy', 'Hardware', 'Command', 'Differs'):
    # Only what is no checkpoint as it was published says what its base is.
    assert part in document or (part == 'Base policy' and settings.model.name)
  assert ('Expected' in document) == (name != 'tiny')
  # The command is one that the flags understand, and names the preset.
  command = document.split('python -m experiments.train ', 1)[1]
  command = shlex.split(' '.join(command.split('\n\n')[0].split()))
  given = [word for word in command if word.startswith('--')]
  assert f'--preset={name}' in given
  assert name == 'tiny' or any(f.startswith('--init-from=') for f in given)
