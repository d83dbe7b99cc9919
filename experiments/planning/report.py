"""A plan as a table for people and as a record for programs."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich import console as rich_console
from rich import table as rich_table

from experiments.planning import costs, estimate

_GIB = 2**30
RULE = (
  'Time: for each instruction of the compiled programs, loops with all their '
  f'passes, the larger of FLOPs at {costs.PEAK_SHARE:.0%} of the peak and '
  'bytes at full bandwidth, and transfers between chips that no independent '
  'work hides. MFU: policy forward and backward once and the reference '
  'forward, no recomputation, every row at full length (a run cuts rows that '
  'end early: --length-buckets). MaxText reports 56 to 71 % for pre-training, '
  'which has no reference.'
)
LEVEL = (
  'Compiled at {level}. O0 takes a fifth of the time of --level=default; with '
  "4 layers of Gemma 2 2B on a v5e-16 the update's temporaries came out 14 % "
  'larger and its time 12 % longer.'
)


def record(
  plan: estimate.Plan, topology: str, fixes: Sequence[str]
) -> dict[str, Any]:
  """Everything, as JSON has it; bytes and FLOPs a device."""
  return {
    'topology': topology,
    'chips': plan.devices,
    'hbm_bytes': plan.chip.memory,
    'fits': plan.fits,
    'peak_bytes': plan.peak,
    'resident_bytes': dict(plan.resident),
    'episode': _program(plan.episode, plan.episode_peak),
    'update': _program(plan.update, plan.update_peak),
    'attempt_tokens': plan.attempt_tokens,
    'steps': plan.steps,
    'step_seconds': plan.step_seconds,
    'hours': plan.hours,
    'chip_hours': None if plan.hours is None else plan.hours * plan.devices,
    'update_mfu': plan.mfu,
    'fixes': list(fixes),
  }


def _program(program, peak):
  cost = program.cost
  found = {
    'peak_bytes': peak,
    'argument_bytes': program.memory.arguments,
    'temporary_bytes': program.memory.temporaries,
    'compile_seconds': program.compile_seconds,
    'compiled': cost is not None,
  }
  if cost is not None:
    found |= {
      'flops': cost.flops,
      'bytes': cost.bytes,
      'collective_bytes': cost.collective_bytes,
      'seconds': cost.seconds,
      'waiting_seconds': cost.waiting,
    }
  return found


def print_plan(
  plan: estimate.Plan,
  title: str,
  level: str,
  fixes: Sequence[str],
  console: rich_console.Console,
) -> None:
  """The tables, the verdict, and the rules that they follow."""
  console.print(f'{title}, {plan.devices} chips', markup=False)
  console.print(_table('GiB a chip', ('rollout', 'update'), _memory(plan)))
  console.print(_table('A step, a chip', ('rollout', 'update'), _work(plan)))
  verdict = 'fits' if plan.fits else 'DOES NOT FIT'
  console.print(
    f'Peak {_gib(plan.peak)} of {_gib(plan.chip.memory)} GiB: {verdict}.'
  )
  for mend in fixes:
    console.print(f'  {mend}', markup=False, soft_wrap=True)
  if plan.hours is not None:
    console.print(
      f'{plan.step_seconds:.1f} s a step; {plan.steps} steps: '
      f'{plan.hours:.1f} hours, {plan.hours * plan.devices:.0f} chip-hours '
      '(without grading, evaluations and checkpoints; every attempt '
      f'{plan.attempt_tokens} tokens long). '
      f'MFU of the update: {plan.mfu:.0%}.'
    )
  console.print(f'{RULE} {LEVEL.format(level=level)}', markup=False)


def _table(title, columns, rows):
  table = rich_table.Table(title=title, title_justify='left')
  table.add_column('')
  for column in columns:
    table.add_column(column, justify='right')
  for row in rows:
    table.add_row(*row)
  return table


def _memory(plan) -> Iterator[tuple[str, ...]]:
  for name in ('trained weights', 'optimizer', 'reference'):
    yield name, *[_gib(plan.resident[name])] * 2
  yield 'weights for decoding', _gib(plan.resident['decode weights']), ''
  cache = plan.resident['cache']
  yield 'key-value cache', _gib(cache), ''
  # The episode makes its cache itself, among its temporaries.
  others = max(0.0, plan.episode.memory.temporaries - cache)
  yield 'temporaries', _gib(others), _gib(plan.update.memory.temporaries)
  yield 'peak', _gib(plan.episode_peak), _gib(plan.update_peak)


def _work(plan) -> Iterator[tuple[str, ...]]:
  both = (plan.episode.cost, plan.update.cost)

  def row(name, show):
    return name, *('refused' if c is None else show(c) for c in both)

  yield row('TFLOP', lambda c: f'{c.flops / 1e12:.1f}')
  yield row('GB of HBM', lambda c: f'{c.bytes / 1e9:.0f}')
  yield row('GB from other chips', lambda c: f'{c.collective_bytes / 1e9:.1f}')
  yield row('seconds', lambda c: f'{c.seconds:.1f}')
  yield row('of them waiting', lambda c: f'{c.waiting:.1f}')


def _gib(size):
  return f'{size / _GIB:.2f}'
