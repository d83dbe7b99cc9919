"""A plan as a table for people and as a record for programs."""

from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any

from rich import console as rich_console
from rich import filesize
from rich import table as rich_table

from experiments.planning import estimate, roofline

_GIB = 2**30
RULE = (
  'At least: useful FLOPs at the peak; decoding reads its weights and the live '
  'keys and values at full bandwidth. No program can be faster. Up to, an '
  f'estimate: updates at {roofline.PUBLISHED_SHARE_OF_PEAK:.0%} of the peak '
  '(public recipes train Gemma at 38 to 46 %), decoding at '
  f'{roofline.DECODE_OVERHEAD:.2f} times what reading weights and the '
  "cache's segments takes (the compiler's estimate for Gemma 2 2B on a v5p); "
  'unknown for models below 2B and for adapters. Grading and compilation come '
  'on top. Nothing was measured on a TPU.'
)
LEVEL = (
  'Compiled at {level}. O0 takes a fifth of the time of --level=default; with '
  "4 layers of Gemma 2 2B on a v5e-16 the update's temporaries came out 14 % "
  'larger.'
)


def record(
  plan: estimate.Plan, topology: str, fixes: Sequence[str]
) -> dict[str, Any]:
  """Everything, as JSON has it; bytes a device, times as [lower, upper]."""
  return {
    'topology': topology,
    'chips': plan.devices,
    'hbm_bytes': plan.chip.memory,
    'fits': plan.fits,
    'peak_bytes': plan.peak,
    'resident_bytes': dict(plan.resident),
    'episode': _program(plan.episode, plan.episode_peak),
    'update': _program(plan.update, plan.update_peak),
    'disk_bytes': dataclasses.asdict(plan.disk),
    'attempt_tokens': plan.attempt_tokens,
    'steps': plan.steps,
    'compile_seconds': plan.compile_seconds,
    'checkpoint_bytes_per_second': plan.checkpoint_rate,
    'evaluation_seconds': dataclasses.astuple(plan.evaluation_seconds),
    'rollout_seconds': dataclasses.astuple(plan.rollout_seconds),
    'update_seconds': dataclasses.astuple(plan.update_seconds),
    'step_seconds': dataclasses.astuple(plan.step_seconds),
    'hours': dataclasses.astuple(plan.hours),
    'chip_hours': dataclasses.astuple(plan.hours * plan.devices),
    'whole_hours': dataclasses.astuple(plan.whole_hours),
    'fixes': list(fixes),
  }


def _program(program, peak):
  return {
    'peak_bytes': peak,
    'argument_bytes': program.arguments,
    'temporary_bytes': program.temporaries,
    'compiled': program.is_compiled,
  }


def print_plan(
  plan: estimate.Plan,
  title: str,
  level: str,
  fixes: Sequence[str],
  console: rich_console.Console,
) -> None:
  """Prints memory, fixes, disk and time, and the rules that they follow."""
  console.print(f'{title}, {plan.devices} chips', markup=False)
  _print_table(console, 'GiB a chip', ('rollout', 'update'), _memory(plan))
  verdict = 'fits' if plan.fits else 'DOES NOT FIT'
  console.print(
    f'Peak {_gib(plan.peak)} of {_gib(plan.chip.memory)} GiB: {verdict}.'
  )
  for fix in fixes:
    console.print(f'  {fix}', markup=False, soft_wrap=True)
  console.print(str(plan.disk), markup=False)
  title = f'Time, attempts of {plan.attempt_tokens} tokens'
  _print_table(console, title, ('at least', 'up to'), _time(plan))
  console.print(
    f'Both programs compiled here in {plan.compile_seconds:.0f} s. So that no '
    'checkpoint delays training at the bound, the disk must take '
    f'{filesize.decimal(round(plan.checkpoint_rate))} a second.',
    markup=False,
  )
  console.print(f'{RULE} {LEVEL.format(level=level)}', markup=False)


def _print_table(console, title, columns, rows):
  table = rich_table.Table(title=title, title_justify='left')
  table.add_column('')
  for column in columns:
    table.add_column(column, justify='right')
  for row in rows:
    table.add_row(*row)
  console.print(table)


def _memory(plan) -> Iterator[tuple[str, ...]]:
  for name in ('trained weights', 'optimizer', 'reference'):
    yield name, *[_gib(plan.resident[name])] * 2
  yield 'weights for decoding', _gib(plan.resident['decode weights']), ''
  cache = plan.resident['cache']
  yield 'key-value cache', _gib(cache), ''
  # The episode makes its cache itself, among its temporaries.
  others = max(0.0, plan.episode.temporaries - cache)
  yield 'temporaries', _gib(others), _gib(plan.update.temporaries)
  yield 'peak', _gib(plan.episode_peak), _gib(plan.update_peak)


def _time(plan) -> Iterator[tuple[str, ...]]:
  for name, times in (
    ('rollout, s', plan.rollout_seconds),
    ('update, s', plan.update_seconds),
    ('step, s', plan.step_seconds),
    (f'{plan.steps} steps, hours', plan.hours),
    (f'{plan.steps} steps, chip-hours', plan.hours * plan.devices),
    ('evaluations, hours', plan.evaluation_seconds * (1 / 3600)),
    ('steps and evaluations, hours', plan.whole_hours),
  ):
    upper = 'unknown' if times.upper is None else f'{times.upper:,.1f}'
    yield name, f'{times.lower:,.1f}', upper


def _gib(size):
  return f'{size / _GIB:.2f}'
