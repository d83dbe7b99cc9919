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
  chips,
  estimate,
  hlo,
  memory,
  report,
  workload,
)
from experiments.planning import costs as costs_lib
from experiments.run import run_directory

# So slow that nothing is rounded to zero.
_CHIP = dataclasses.replace(
  chips.CHIPS['v5e'], flops=1e9, bandwidth=1e8, interconnect=1e7
)


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
  assert found.steps == 200
  assert found.attempt_tokens == 6
  # The decode loop and the turn change: how often is for the data to decide.
  assert found.episode.cost.unknown_loops == 2
  assert found.update.cost.unknown_loops == 0
  for program in (found.episode, found.update):
    assert program.cost.flops > 0
    assert program.cost.bytes > 0
    assert program.cost.collective_bytes > 0
  assert found.fits
  assert found.kept < found.peak < _CHIP.memory
  assert 0 < found.mfu < 1
  assert found.hours == pytest.approx(found.step_seconds * 200 / 3600)


def test_the_update_does_what_is_useful_and_recomputes_logits(planned):
  """Executed FLOPs: more than the useful ones, but not twice as many.

  Chunks of logits are computed again in the backward pass, the reference's too;
  attention computes the keys that are masked.
  """
  _, found = planned
  executed = found.update.cost.flops * found.devices
  assert found.useful_flops < executed < 2 * found.useful_flops


@pytest.mark.parametrize(
  ('made', 'expected'),
  [
    ('f32[4,300]', 6.0),  # logits over the vocabulary
    ('f32[16,300]', 0.5),  # the embedding: its width is the model's
    ('f32[4,16]', 0.5),  # the instruction, after one of two attempts
  ],
)
def test_passes_of_loops_that_data_decide(planned, made, expected):
  work, _ = planned
  text = f"""%body (p: f32[4,16]) -> f32[4,16] {{
  %p = f32[4,16]{{1,0}} parameter(0)
  ROOT %made = {made}{{1,0}} custom-call(%p)
}}
ENTRY %main (x: f32[4,16]) -> f32[4,16] {{
  %x = f32[4,16]{{1,0}} parameter(0)
  ROOT %loop = f32[4,16]{{1,0}} while(%x), condition=%ends, body=%body
}}
"""
  module = hlo.parse(text)
  loop = module.computations['main']['loop']
  assert estimate.passes(work, 6)(module, loop) == expected


def test_record(planned):
  _, found = planned
  record = json.loads(json.dumps(report.record(found, 'v5e-8', ['a'])))
  assert record['fits'] is True
  assert record['chips'] == 8
  assert record['chip_hours'] == pytest.approx(8 * record['hours'])
  assert record['update']['flops'] == found.update.cost.flops
  assert record['resident_bytes']['cache'] == found.resident['cache']
  assert record['fixes'] == ['a']


def test_tables(planned, capsys):
  _, found = planned
  report.print_plan(found, 'tiny', 'O0', [], rich_console.Console(width=100))
  out = capsys.readouterr().out
  assert 'key-value cache' in out
  assert 'fits.' in out
  assert 'MFU' in out


def _too_large(found, **peaks):
  """The plan with programs of so many GiB of temporaries; None: refused."""
  programs = {}
  for name, gib in peaks.items():
    program = getattr(found, name)
    programs[name] = dataclasses.replace(
      program,
      cost=None if gib is None else program.cost,
      memory=memory.Program(0.0, (gib or 99) * 2**30),
    )
  return dataclasses.replace(found, **programs)


def test_a_plan_that_fits_needs_no_advice(planned):
  work, found = planned
  assert advice.fixes(found, work, 'v5e-8') == []


def test_advice_for_the_update(planned):
  work, found = planned
  found = dataclasses.replace(found, chip=chips.CHIPS['v5e'])
  fixes = advice.fixes(_too_large(found, update=20), work, 'v5e-8')
  # 16 rows on 8 devices: one a device.
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
    chip=chips.CHIPS['v5e'],
    resident={
      **found.resident,
      'cache': 10 * 2**30,
      'decode weights': 5 * 2**30,
      'optimizer': 9 * 2**30,
    },
  )
  text = '\n'.join(advice.fixes(_too_large(found, episode=None), work, 'v5e-8'))
  # The model has 4 key-value heads.
  assert '--mesh.rollout-tensor=2' in text
  assert '--samples-per-problem=2' in text or '--problems-per-step=8' in text
  assert '--max-attempt-tokens=3' in text
  assert '--lora.rank=16' in text
  assert '--reference-dtype=bfloat16' in text


def test_a_refused_program_has_no_hours(planned, capsys):
  _, found = planned
  refused = _too_large(found, update=None)
  assert not refused.fits
  assert refused.hours is refused.mfu is None
  report.print_plan(refused, 'x', 'O0', ['do'], rich_console.Console(width=100))
  out = capsys.readouterr().out
  assert 'refused' in out
  assert 'DOES NOT FIT' in out
  assert '\n  do\n' in out
  assert report.record(refused, 'v5e-8', [])['chip_hours'] is None


@pytest.mark.parametrize(
  ('argument', 'message'),
  [
    ('--mesh.fsdp=3', 'there are 8'),
    ('--mesh.rollout-tensor=3', 'does not divide 8'),
    ('--micro-batch=4', 'multiple of 8'),
    ('--problems-per-step=12', 'multiple of 8'),
  ],
)
def test_what_does_not_divide_is_refused(argument, message):
  with pytest.raises(run_directory.RunError, match=message):
    workload.make(_settings(argument), jax.devices())


def test_heads_that_do_not_divide_spread_rows(planned):
  settings = _settings('--mesh.rollout-tensor=8')  # of 4 heads
  with pytest.raises(run_directory.RunError, match='multiple of 8'):
    workload.make(
      dataclasses.replace(settings, problems_per_step=12), jax.devices()
    )


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--topology=v5e-7'], 'there is no --topology=v5e-7; there are: v4-8'),
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
  """Compiles both programs for the slice that the document has peaks of."""
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


def test_peak_share_is_the_rule_that_is_printed():
  assert f'{costs_lib.PEAK_SHARE:.0%}' in report.RULE
