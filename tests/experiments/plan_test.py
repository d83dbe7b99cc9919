"""A plan from settings to its table, on CPU devices; the real ones are slow."""

import dataclasses
import json
import re

import jax
import pytest
from rich import console as rich_console

from experiments import plan
from experiments.config import command_line
from experiments.planning import (
  advice,
  beside_steps,
  chips,
  estimate,
  memory,
  report,
  workload,
)
from experiments.run import run_directory

_CHIP = chips.CHIPS['v5e']


def _settings(*arguments):
  return command_line.parse_settings(
    [
      '--preset=tiny',
      '--micro-batch=None',
      '--problems-per-step=16',
      '--samples-per-problem=2',
      '--max-attempt-tokens=6',
      '--max-prompt-tokens=8',
      '--model.layers=1',
      '--model.width=16',
      '--model.ffw=32',
      *arguments,
    ]
  )


@pytest.fixture(scope='module')
def planned():
  """Workload and plan of a small run on eight CPU devices."""
  work = workload.make(_settings('--micro-batch=16'), jax.devices())
  return work, estimate.make(work, _CHIP, level='O0')


def test_the_plan_of_a_small_run(planned):
  work, found = planned
  assert work.mesh.shape == {'data': 1, 'fsdp': 8, 'tensor': 1}
  assert work.sizes.length == 8 + 6 + 80 + 6
  assert found.devices == 8
  assert found.attempt_tokens == 6
  for program in (found.episode, found.update):
    assert program.is_compiled
    assert program.temporaries > 0
  assert found.fits
  assert found.kept < found.peak < _CHIP.memory
  assert found.disk.checkpoint > 0
  step = found.rollout_seconds.lower + found.update_seconds.lower
  assert found.step_seconds.lower == step
  assert found.hours.lower == pytest.approx(200 * step / 3600)
  # Three policies on 2,000 problems, 256 at a time; none while it trains.
  assert work.beside == beside_steps.BesideSteps(3 * 8, 10)
  more = found.whole_hours.lower - found.hours.lower
  assert more == pytest.approx(found.evaluation_seconds.lower / 3600)
  assert more > 0
  rate = found.checkpoint_rate * 10 * step
  assert rate == pytest.approx(found.disk.checkpoint)
  assert found.compile_seconds > 0


def test_evaluations_while_a_policy_trains():
  settings = _settings(
    *('--eval-every=30', '--validation-problems=300', '--eval-problems=256'),
    *('--steps-stage1=60', '--steps-stage2=29', '--checkpoint-every=25'),
  )
  # Three policies; twice in Stage I, two batches each.
  assert beside_steps.count(settings) == beside_steps.BesideSteps(3 + 2 * 2, 25)


def test_record(planned):
  _, found = planned
  record = json.loads(json.dumps(report.record(found, 'v5e-8', ['a'])))
  assert record['fits'] is True
  assert record['chips'] == 8
  lower, upper = record['hours']
  assert record['chip_hours'] == [pytest.approx(8 * lower), None]
  assert upper is None  # so small a model
  assert record['update']['temporary_bytes'] == found.update.temporaries
  assert record['resident_bytes']['cache'] == found.resident['cache']
  assert record['disk_bytes']['checkpoint'] == found.disk.checkpoint
  assert record['fixes'] == ['a']


def test_tables(planned, capsys):
  _, found = planned
  report.print_plan(found, 'tiny', 'O0', [], rich_console.Console(width=100))
  out = capsys.readouterr().out
  for expected in ('key-value cache', 'fits.', 'Disk:', 'at least', 'unknown'):
    assert expected in out


def _too_large(found, *, is_compiled=True, **temporaries):
  """The plan with programs of so many GiB of temporaries."""
  return dataclasses.replace(
    found,
    **{
      name: memory.Program(0.0, gib * 2**30, is_compiled)
      for name, gib in temporaries.items()
    },
  )


def test_a_plan_that_fits_needs_no_advice(planned):
  work, found = planned
  assert advice.fixes(found, work, 'v5e-8') == []


def test_advice_for_the_update(planned):
  work, found = planned
  fixes = advice.fixes(_too_large(found, update=20), work, 'v5e-8')
  # 16 sequences on 8 devices: one a device.
  assert fixes[0].startswith('--micro-batch=8:')
  assert fixes[1].startswith('--remat')
  assert fixes[-1].startswith('--topology=v5e-16:')
  least = dataclasses.replace(work, micro_batch=8)
  assert 'micro-batch' not in ' '.join(
    advice.fixes(_too_large(found, update=20), least, 'v5e-8')
  )


def test_advice_for_the_episode(planned):
  work, found = planned
  found = dataclasses.replace(
    found,
    resident={
      **found.resident,
      'cache': 10 * 2**30,
      'decode weights': 5 * 2**30,
      'optimizer': 9 * 2**30,
    },
  )
  rejected = _too_large(found, episode=99, is_compiled=False)
  text = '\n'.join(advice.fixes(rejected, work, 'v5e-8'))
  # The model has 4 key-value heads.
  assert '--mesh.rollout-tensor=2' in text
  assert '--rollout.compactions' not in text  # attempts are short
  assert '--rollout.rows=2' in text  # of 32 sequences, a device has 4
  assert '--samples-per-problem=2' in text or '--problems-per-step=8' in text
  assert '--max-attempt-tokens=3' in text
  assert '--lora.rank=16' in text
  assert '--reference-dtype=bfloat16' in text


def test_a_rejected_program_does_not_fit(planned, capsys):
  _, found = planned
  rejected = _too_large(found, update=1, is_compiled=False)
  assert not rejected.fits
  console = rich_console.Console(width=100)
  report.print_plan(rejected, 'x', 'O0', ['do'], console)
  out = capsys.readouterr().out
  assert 'DOES NOT FIT' in out
  assert '\n  do\n' in out
  assert report.record(rejected, 'v5e-8', [])['update']['compiled'] is False


@pytest.mark.parametrize(
  ('argument', 'message'),
  [
    ('--mesh.fsdp=3', 'fsdp'),
    ('--mesh.rollout-tensor=3', 'tensor=3'),
    ('--micro-batch=4', '--micro-batch'),
    ('--problems-per-step=12', '--problems-per-step'),
  ],
)
def test_what_does_not_divide_is_rejected(argument, message):
  with pytest.raises(run_directory.RunError, match=message):
    workload.make(_settings(argument), jax.devices())


def test_heads_that_do_not_divide_spread_sequences(planned):
  settings = _settings('--mesh.rollout-tensor=8')  # of 4 heads
  with pytest.raises(run_directory.RunError, match='--problems-per-step'):
    workload.make(
      dataclasses.replace(settings, problems_per_step=12), jax.devices()
    )


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--topology=v5e-7'], 'v5e-7'),
    (['--topolgy=v5e-8'], '--topolgy'),
  ],
)
def test_wrong_command_lines(arguments, message, capsys):
  try:
    code = plan.main(['--preset=tiny', *arguments])
  except SystemExit as error:
    code = error.code
  assert code == 2
  assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize('preset', command_line.preset_names())
def test_every_preset_fits_where_it_says(preset):
  """Compiles both programs for the document's slice; compares its figures."""
  pytest.importorskip('libtpu')
  settings, document = command_line.load_preset(preset)
  planned = re.search(r'--topology=([\w-]+)', document)
  if planned is None:
    pytest.skip(f'{preset} has no plan in its document')
  name = planned[1]
  chip, devices = chips.find(name)
  found = estimate.make(workload.make(settings, devices), chip)
  assert found.fits, report.record(found, name, [])
  peaks = [float(peak) for peak in re.findall(r'peak (\d+\.\d)', document)]
  measured = [p / 2**30 for p in (found.episode_peak, found.update_peak)]
  assert peaks == pytest.approx(measured, abs=0.1)
  [seconds] = re.findall(r'step\s+takes\s+at\s+least\s+([\d.]+)\s+s', document)
  assert float(seconds) == pytest.approx(found.step_seconds.lower, abs=0.1)
