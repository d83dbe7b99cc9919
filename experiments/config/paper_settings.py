"""The paper's settings beside a run's: what `--dry-run` prints.

Numbers: arXiv:2409.12917v2, table 5 (ICLR 2025, table 8) and section 6.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

from rich import box, markup
from rich import console as rich_console
from rich import table as rich_table

from experiments.config import fields, schema


@dataclasses.dataclass(frozen=True)
class Stated:
  """A value that the paper states.

  Attributes:
    math: the value for MATH (Gemini 1.5 Flash).
    mbpp: the value for MBPP (Gemini 1.0 Pro).
    readings: further values of a run that agree with the stated one, where the
      paper does not say what it counts.
    note: footnote on what the paper leaves open.
  """

  math: Any
  mbpp: Any
  readings: Callable[[schema.Settings], tuple] | None = None
  note: str = ''


_STEPS = Stated(
  3000,
  1500,
  lambda s: (s.steps_stage1 + s.steps_stage2,),
  'the paper does not say whether of each stage or of both',
)
PAPER = {
  'turns': Stated(2, 2),
  'temperature': Stated(1.0, 1.0),
  'steps_stage1': _STEPS,
  'steps_stage2': _STEPS,
  'problems_per_step': Stated(
    512,
    128,
    lambda s: (s.batch_size,),
    'the paper does not say whether of problems or of episodes',
  ),
  'learning_rate': Stated(5e-6, 1e-5),
  'alpha': Stated(10.0, 10.0),
  'normalize_bonus': Stated(False, False),
  'beta1': Stated(0.01, 0.01),
  'beta2': Stated(0.1, 0.25),
  'discount': Stated(0.0, 0.0),
  'checkpoint_selection': Stated('best', 'best'),
  'eval_problems': Stated(500, 164),
}

# Groups and settings that belong to some tasks alone.
_OF_TASKS = {
  **{task: (task,) for task in schema.GENERATED_TASKS},
  'pretrain.copy_share': schema.GENERATED_TASKS,
  'pretrain.easy_nines': ('arithmetic',),
  'pretrain.easy_right': ('arithmetic',),
  'pretrain.redraw_share': ('aiming',),
}
CODE_TASKS = ('mbpp',)
_OF_THE_PROGRAM = ('preset', 'run_dir', 'fork_from', 'stage', 'dry_run')


def deviations(settings: schema.Settings) -> list[str]:
  """Names of settings that differ from the paper's for the task, in order."""
  flat = fields.flatten(settings)
  found = []
  for name, stated in PAPER.items():
    target = stated.mbpp if settings.task in CODE_TASKS else stated.math
    readings = stated.readings(settings) if stated.readings else ()
    if target not in (flat[name], *readings):
      found.append(name)
  return found


def remarks(settings: schema.Settings) -> list[str]:
  """Sentences on what a run's deviations make of the method."""
  if not settings.normalize_bonus:
    return []
  return [
    'With discount 0, --normalize-bonus makes alpha = 10, alpha = 0 and '
    'multi-turn RL the same expected objective: only its variance differs.'
  ]


def deviations_in_words(settings: schema.Settings) -> list[str]:
  """Sentences on a run's deviations: which they are, and `remarks`."""
  names = ', '.join(fields.flag(name) for name in deviations(settings))
  listed = [f'Not as the paper states it: {names}.'] if names else []
  return listed + remarks(settings)


@dataclasses.dataclass(frozen=True)
class Row:
  """A setting beside the paper's, as texts.

  Attributes:
    name: dotted name of the setting.
    value: value of the run.
    math: the paper's value for MATH, '-' where it states none.
    mbpp: the same for MBPP.
    differs: whether the run's value is not the paper's for the run's task.
  """

  name: str
  value: str
  math: str
  mbpp: str
  differs: bool


def notes() -> list[str]:
  """Footnotes on what the paper leaves open; `rows` refer to them as [1]."""
  return list(dict.fromkeys(s.note for s in PAPER.values() if s.note))


def rows(settings: schema.Settings) -> list[Row]:
  """Every setting that affects the run, in order, beside the paper's."""
  marked = deviations(settings)
  result = []
  for name, value in fields.flatten(settings).items():
    if name in _OF_THE_PROGRAM or _is_without_effect(name, settings):
      continue
    stated = PAPER.get(name)
    theirs = ('-', '-')
    if stated:
      mark = f' [{notes().index(stated.note) + 1}]' if stated.note else ''
      theirs = tuple(_text(v) + mark for v in (stated.math, stated.mbpp))
    result.append(Row(name, _text(value), *theirs, name in marked))
  return result


def _is_without_effect(name: str, settings: schema.Settings) -> bool:
  group, _, field = name.partition('.')
  if group == 'model':
    return settings.model.name is not None and field != 'name'
  is_published = settings.model.name is not None
  if group == 'pretrain' and (is_published or settings.init_from is not None):
    return True
  tasks = _OF_TASKS.get(name) or _OF_TASKS.get(group)
  return tasks is not None and settings.task not in tasks


def print_settings(
  settings: schema.Settings, console: rich_console.Console | None = None
) -> None:
  """Prints every setting beside the paper's, and the stages they make.

  Args:
    settings: the run's.
    console: None: the terminal's.
  """
  # Imports jax, which parsing has no need of.
  from experiments.config import stage_table

  console = console or rich_console.Console()
  column = 'MBPP' if settings.task in CODE_TASKS else 'MATH'
  table = rich_table.Table(
    title=f'Preset {settings.preset}', box=box.HORIZONTALS
  )
  # Together 80 columns: nothing is cut on a narrow terminal.
  table.add_column('setting', overflow='fold', width=27)
  table.add_column('value', justify='right', overflow='fold', width=14)
  table.add_column('paper, MATH', justify='right', width=8)
  table.add_column('paper, MBPP', justify='right', width=8)
  table.add_column('', width=len('differs'))
  for row in rows(settings):
    table.add_row(
      fields.flag(row.name),
      row.value,
      markup.escape(row.math),
      markup.escape(row.mbpp),
      'differs' if row.differs else '',
      style='yellow' if row.differs else '',
    )
  console.print(table)
  console.print(
    f'{len(deviations(settings))} settings differ from the paper ({column});'
  )
  console.print('"-" stands for what it does not state.')
  for i, note in enumerate(notes()):
    console.print(f'[{i + 1}] {note}', markup=False)
  for sentence in remarks(settings):
    console.print(sentence, markup=False, highlight=False)
  stages = stage_table.rows(settings)
  if stages:
    table = rich_table.Table(
      *stage_table.HEADINGS,
      title=f'Stages of --method={settings.method}',
      box=box.HORIZONTALS,
    )
    for texts in stages:
      table.add_row(*texts)
    console.print(table)
    console.print(stage_table.NOTE, markup=False, highlight=False)
  console.print(f'Run directory: {settings.directory}', markup=False)


def _text(value: Any) -> str:
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, tuple):
    return ' '.join(value) or 'none'
  return f'{value:g}' if isinstance(value, float) else str(value)
