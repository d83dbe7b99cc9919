"""The command line: presets, overrides, rejections; without jax, and fast."""

import dataclasses
import pathlib
import resource
import subprocess
import sys

import pytest

from experiments.config import command_line, fields, schema

ROOT = pathlib.Path(__file__).resolve().parents[3]
FRAME = str.maketrans('│|╭╰─╮╯', '       ')


def rejection(arguments, capsys):
  """What is printed when arguments are rejected with exit code 2."""
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
  assert parsed.directory == 'x'
  # Untouched: the preset's, neither the class's default (64) nor a nested one.
  assert parsed.problems_per_step == 48
  assert parsed.model.width == 64


def test_every_way_to_write_a_flag():
  parsed = command_line.parse_settings(
    [
      '--no-normalize-bonus', '--max_grad_norm=2', '--beta1', '0.5',
      '--model.name=None', '--lora.targets', 'q', 'v', '--reward', 'a', 'b',
      '--model.kv_heads', '2',
    ]
  )  # fmt: skip
  assert not parsed.normalize_bonus
  assert parsed.max_grad_norm == 2.0
  assert parsed.beta1 == 0.5
  assert parsed.model.name is None
  assert parsed.lora.targets == ('q', 'v')
  assert parsed.reward == ('a', 'b')
  assert parsed.model.kv_heads == 2


def test_what_a_program_does_not_know_is_handed_on_in_order():
  @dataclasses.dataclass(frozen=True)
  class Options:
    """Options of a program."""

    seeds: int = 3

  options, rest = command_line.parse(
    Options,
    ['--alpha', '3', '--seeds', '4', '--lora.targets', 'q', 'v', '--no-remat'],
    program='p',
    document='d',
    return_unknown_args=True,
  )
  assert options.seeds == 4
  assert rest == ['--alpha', '3', '--lora.targets', 'q', 'v', '--no-remat']


@pytest.mark.parametrize(
  ('argument', 'says'),
  [
    ('--alhpa=3', '--alhpa'),
    ('--beta=1', '--beta1'),
    ('--model.with=3', '--model.width'),
    ('--zzzzzzzz', '--zzzzzzzz'),
    # No abbreviation is guessed, neither of flags nor of --preset.
    ('--pre=tiny', '--pre=tiny'),
    ('--adaptive-beta2=true', 'true'),
    ('--preset=tinny', 'did you mean tiny?'),
    ('--preset', '--preset'),
    ('--alpha=ten', "'ten'"),
    ('--kl=k1', "'exact', 'reward', 'k3'"),
    ('--stage=3', "'1', '1a', '1b', '2', 'all'"),
    ('tiny', 'tiny'),
    ('--alpha', '--alpha'),
    ('--temperature=0', '--temperature=0.0'),
    ('--method=scroe', 'score'),
  ],
)
def test_rejected(argument, says, capsys):
  assert says in rejection([argument], capsys)


def test_all_errors_are_named_at_once(capsys):
  message = rejection(['--alpha=-1', '--samples-per-problem=1'], capsys)
  assert '--alpha=-1.0' in message
  assert '--samples-per-problem=1' in message


@pytest.mark.parametrize('argument', ['--help', '--alhpa=3', '--alpha=-3'])
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
  assert child.returncode == (0 if argument == '--help' else 2)
  # Processor seconds: the machine may be busy.
  assert after.ru_utime - before.ru_utime < 2.0


def test_help_describes_every_flag(capsys):
  with pytest.raises(SystemExit) as stop:
    command_line.parse_settings(['--help'])
  assert stop.value.code == 0
  text = capsys.readouterr().out
  for name in fields.flatten(schema.Settings()):
    assert fields.flag(name) in text


@pytest.mark.parametrize('name', command_line.preset_names())
def test_presets_are_documents_with_possible_settings(name):
  preset, document = command_line.load_preset(name)
  assert preset.preset == name
  assert f'--preset={name}' in document
  for word in ('What', 'Hardware', 'Command'):
    assert word in document
