"""The command line: presets, overrides, refusals; without jax, and fast."""

import pathlib
import resource
import subprocess
import sys

import pytest

from experiments.config import command_line, schema

ROOT = pathlib.Path(__file__).resolve().parents[3]
FRAME = str.maketrans('│|╭╰─╮╯', '       ')


def refusal(arguments, capsys):
  """What is printed when arguments are refused with exit code 2."""
  with pytest.raises(SystemExit) as error:
    command_line.parse_settings(arguments)
  assert error.value.code == 2
  # Frames and line breaks of the parser's own messages taken out.
  return ' '.join(capsys.readouterr().err.translate(FRAME).split())


def test_no_flags_is_the_default_preset():
  assert command_line.parse_settings([]) == command_line.load_preset('tiny')[0]


def test_flags_go_over_the_preset_wherever_they_stand():
  parsed = command_line.parse_settings(
    ['--alpha=3', '--preset', 'tiny', '--model.kv-heads=2', '--run-dir=x']
  )
  assert parsed.alpha == 3.0
  assert parsed.model.kv_heads == 2
  assert parsed.directory == pathlib.Path('x')
  # Untouched: the preset's, neither the class's default (64) nor a nested one.
  assert parsed.problems_per_step == 48
  assert parsed.model.width == 64


def test_switches_and_underscores():
  parsed = command_line.parse_settings(
    ['--no-normalize-bonus', '--max_grad_norm=2']
  )
  assert not parsed.normalize_bonus
  assert parsed.max_grad_norm == 2.0


@pytest.mark.parametrize(
  ('argument', 'says'),
  [
    ('--alhpa=3', 'there is no flag --alhpa (did you mean --alpha?)'),
    ('--beta=1', 'did you mean --beta1 or --beta2?'),
    ('--model.with=3', 'did you mean --model.width?'),
    ('--zzzzzzzz', 'there is no flag --zzzzzzzz all flags:'),
    ('--adaptive-beta2=true', 'write --adaptive-beta2, or --no-adaptive-beta2'),
    ('--preset=tinny', "no preset 'tinny' (did you mean tiny?)"),
    ('--alpha=ten', "'ten'"),
    ('--kl=k1', "'exact', 'reward', 'k3'"),
    ('--stage=3', "'1', '1a', '1b', '2', 'all'"),
    ('tiny', 'tiny'),
    ('--alpha', '--alpha'),
    ('--temperature=0', '--temperature=0.0: must be more than 0'),
  ],
)
def test_refused(argument, says, capsys):
  assert says in refusal([argument], capsys)


def test_all_mistakes_are_named_at_once(capsys):
  message = refusal(['--alpha=-1', '--samples-per-problem=1'], capsys)
  assert '--alpha=-1.0: must be at least 0' in message
  assert '--samples-per-problem=1: must be at least 2' in message


@pytest.mark.parametrize('argument', ['--help', '--alhpa=3', '--preset=tiny'])
def test_answers_without_jax_in_two_seconds(argument):
  program = (
    'import sys\n'
    'from experiments.config import command_line, paper_settings\n'
    'try:\n'
    f'  command_line.parse_settings([{argument!r}])\n'
    'finally:\n'
    '  assert "jax" not in sys.modules\n'
  )
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  child = subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True
  )
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  assert 'AssertionError' not in child.stderr
  assert child.returncode == (2 if argument == '--alhpa=3' else 0)
  # Processor seconds: the machine may be busy.
  assert after.ru_utime - before.ru_utime < 2.0


def test_help_describes_every_flag(capsys):
  with pytest.raises(SystemExit) as stop:
    command_line.parse_settings(['--help'])
  assert stop.value.code == 0
  text = capsys.readouterr().out
  for name in schema.flatten(schema.Settings()):
    assert schema.flag(name) in text


@pytest.mark.parametrize('name', command_line.preset_names())
def test_presets_are_documents_with_possible_settings(name):
  preset, document = command_line.load_preset(name)
  assert preset.preset == name
  assert f'--preset={name}' in document
  for word in ('What', 'Hardware', 'Command'):
    assert word in document
