"""Every preset can be printed, and the command in its document parses."""

import shlex

import pytest

from experiments import train
from experiments.config import command_line


@pytest.mark.parametrize('name', command_line.preset_names())
def test_dry_run(name, capsys):
  assert train.main([f'--preset={name}', '--dry-run']) == 0
  said = capsys.readouterr().out
  assert f'Preset {name}' in said


@pytest.mark.parametrize('name', command_line.preset_names())
def test_the_command_of_the_document(name):
  """It is one that the flags understand, and names the preset."""
  _, document = command_line.load_preset(name)
  command = document.split('python -m experiments.train ', 1)[1]
  command = shlex.split(' '.join(command.split('\n\n')[0].split()))
  given = [word for word in command if word.startswith('--')]
  assert f'--preset={name}' in given
  from_scratch = name in ('tiny', 'aiming')
  assert from_scratch or any(f.startswith('--init-from=') for f in given)
