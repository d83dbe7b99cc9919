"""Sweeps one setting, to see when the stages and the bonus matter.

`python -m experiments.studies --sweep=copy_share` varies how often the base
policy's second attempt copies its first, and so how well it corrects itself
before any RL; `--sweep=stage1_steps` how much of the budget Stage I has;
`--sweep=train_problems` how many problems are trained on, and so how often each
is seen. All write study.json, .csv, .md and .png, and go on where they were
stopped. Other flags are those of experiments.train. The paper has no such
curves.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import math
import pathlib
import statistics
import sys
from typing import Any, Literal

from experiments import compare, many_runs, methods
from experiments.config import command_line, paper_settings, schema
from experiments.reporting import comparison_table, study_plots, tables
from experiments.run import building, outcome, policies
from score_jax.io import json_files

_SAMPLED = 'sampled.json'


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A setting that is varied.

  Attributes:
    label: label of the figure's horizontal axis.
    values: default values.
    methods: default methods, each trained at every value.
    is_logarithmic: whether the figure's horizontal axis is.
  """

  label: str
  values: tuple[float, ...]
  methods: tuple[str, ...]
  is_logarithmic: bool = False


SWEEPS = {
  'copy_share': Sweep(
    "share of copies among the base policy's second attempts",
    (0.3, 0.6, 0.8, 0.9, 0.97),
    ('multi_turn', 'score', 'without_stage1', 'without_bonus'),
  ),
  'stage1_steps': Sweep(
    'updates of Stage I, of the same budget',
    (0.0, 25.0, 50.0, 100.0, 150.0),
    ('score', 'without_bonus'),
  ),
  'train_problems': Sweep(
    'number of training problems',
    (32.0, 256.0, 2048.0, 16384.0),
    (
      'multi_turn',
      'multi_turn_fig5',
      'score',
      'without_stage1',
      'without_bonus',
    ),
    is_logarithmic=True,
  ),
}


@dataclasses.dataclass(frozen=True)
class Options:
  """The setting to vary, and the methods to train."""

  sweep: Literal['copy_share', 'stage1_steps', 'train_problems'] = 'copy_share'
  """copy_share (of pre-training: the more copies, the less the base policy
  corrects itself), stage1_steps (Stage II gets the rest of the budget) or
  train_problems (the fewer, the more often each is seen)."""
  preset: str = schema.Settings.preset
  """A file in experiments/presets; its settings are the defaults."""
  values: str | None = None
  """Numbers, separated by commas. None: five that span the range."""
  methods: str | None = None
  """Names, separated by commas. None: those that the sweep is about."""
  seeds: int = 2
  """Runs at each value, with seeds 0, 1, ...."""
  run_dir: str | None = None
  """Directory of all runs; what is found there is continued. None:
  runs/study-SWEEP-PRESET."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Trains what is missing, writes and draws the curves; the exit code."""
  options, settings = parse(arguments)
  root = many_runs.root(
    options.run_dir or f'runs/study-{options.sweep}-{options.preset}'
  )
  planned = plan_runs(options, settings, root)

  def show(console):
    rows = make_rows(planned)
    draw(options.sweep, root, rows)
    console.print(make_table(rows))
    for note in paper_settings.deviations_in_words(settings):
      console.print(note, markup=False, highlight=False)
    console.print(
      f'written to {root}/study.json, .csv, .md and .png', markup=False
    )

  return many_runs.run_program(
    planned,
    root,
    lambda: write(options.sweep, root, make_rows(planned), settings),
    show,
  )


def parse(
  arguments: Sequence[str] | None,
) -> tuple[Options, schema.Settings]:
  """Parses this program's options and the settings that all runs share.

  Exits with code 2 where a flag is wrong.
  """
  options, rest = command_line.parse(
    Options,
    arguments,
    program='experiments.studies',
    document=__doc__,
    return_unknown_args=True,
  )
  if options.seeds < 1:
    command_line.reject(f'--seeds={options.seeds}: must be at least 1')
  compare.reject_own(rest)
  settings = command_line.parse_settings(
    [f'--preset={options.preset}', *rest], program='experiments.studies'
  )
  low, high = {
    'copy_share': (0, 1),
    'stage1_steps': (0, methods.budget(settings)),
    'train_problems': (1, math.inf),
  }[options.sweep]
  for value in values(options):
    if not low <= value <= high:
      command_line.reject(
        f'--values={options.values}: those of {options.sweep} lie between '
        f'{low} and {high}'
      )
    for name in method_names(options):
      varied = vary(options.sweep, settings, value)
      command_line.reject_errors(dataclasses.replace(varied, method=name))
  return options, settings


def values(options: Options) -> list[float]:
  """The values to train at, ascending."""
  if options.values is None:
    return list(SWEEPS[options.sweep].values)
  try:
    return sorted({float(value) for value in options.values.split(',')})
  except ValueError:
    command_line.reject(
      f'--values={options.values}: numbers with commas between, such as 0.3,0.9'
    )


def method_names(options: Options) -> list[str]:
  """Names of the methods to train."""
  if options.methods is None:
    return list(SWEEPS[options.sweep].methods)
  return compare.method_names(options.methods)


def vary(
  sweep: str, settings: schema.Settings, value: float
) -> schema.Settings:
  """The settings at one value of a sweep."""
  if sweep == 'copy_share':
    pretrain = dataclasses.replace(settings.pretrain, copy_share=value)
    return dataclasses.replace(settings, pretrain=pretrain)
  if sweep == 'train_problems':
    return dataclasses.replace(settings, train_problems=round(value))
  total = settings.steps_stage1 + settings.steps_stage2
  first = round(value)
  return dataclasses.replace(
    settings, steps_stage1=first, steps_stage2=total - first
  )


def plan_runs(
  options: Options, settings: schema.Settings, root: pathlib.Path
) -> list[many_runs.PlannedRun]:
  """The runs, seed by seed: after the first seed there are whole curves."""
  planned = []
  for seed in range(options.seeds):
    for value in values(options):
      varied = vary(options.sweep, settings, value)
      for name in method_names(options):
        path = root / f'seed{seed}' / f'{name}-{options.sweep}={value:g}'
        own = dataclasses.replace(
          varied, method=name, seed=seed, run_dir=str(path)
        )
        planned.append(many_runs.PlannedRun(own, value))
  return planned


def make_rows(planned: Sequence[many_runs.PlannedRun]) -> dict[str, Any]:
  """Rows of the finished runs, see `comparison_table.summarise`.

  `ability` of a row lists, seed by seed, how often the base policy corrects
  itself when sampled: its share of episodes that are wrong, then right.
  """
  ordered = sorted(
    planned, key=lambda c: list(methods.METHODS).index(c.settings.method)
  )
  rows = comparison_table.summarise(ordered)
  for group, row in rows.items():
    same = [c for c in planned if c.group == group and c.result() is not None]
    row['ability'] = [sampled(cell, methods.BASE)['i_to_c'] for cell in same]
  return rows


def write(
  sweep: str,
  root: pathlib.Path,
  rows: Mapping[str, Any],
  settings: schema.Settings,
) -> None:
  """Writes study.json, .csv and .md of the runs finished so far."""
  root.mkdir(parents=True, exist_ok=True)
  about = {'sweep': sweep, 'label': SWEEPS[sweep].label}
  notes = paper_settings.deviations_in_words(settings)
  comparison_table.write(root / 'study.json', rows, titles(rows), about, notes)


def sampled(planned: many_runs.PlannedRun, name: str) -> Mapping[str, Any]:
  """Summary of a policy's episodes at training temperature, cached on disk."""
  path = planned.directory.stage(name).path / _SAMPLED
  if not path.exists():
    with building.with_grader(building.reopen(planned.directory)) as run:
      evaluation = outcome.evaluate_policy(
        run,
        policies.stage_policy(run, name),
        temperature=run.settings.temperature,
      )
    json_files.write_json(path, evaluation.summary())
  return json.loads(path.read_text())


def draw(sweep: str, root: pathlib.Path, rows: Mapping[str, Any]) -> None:
  """Draws the last turn's accuracy and the delta over the varied setting."""
  curves = {}
  for row in rows.values():
    title = methods.METHODS[row['method']].title
    curves.setdefault(title, {})[row['value']] = row
  study_plots.draw_study(
    curves,
    root / 'study.png',
    label=f'{SWEEPS[sweep].label}; beneath: base i→c, sampled',
    is_logarithmic=SWEEPS[sweep].is_logarithmic,
    notes={
      row['value']: f'{100 * statistics.fmean(row["ability"]):.1f} %'
      for row in rows.values()
    },
  )


def titles(rows: Mapping[str, Any]) -> dict[str, str]:
  """Titles of the rows, with the base policy's ability in percent."""
  return {
    group: f'{methods.METHODS[row["method"]].title}, {row["value"]:g} '
    f'({100 * statistics.fmean(row["ability"]):.1f} %)'
    for group, row in rows.items()
  }


def make_table(rows: Mapping[str, Any]) -> tables.Table:
  """The comparison's table, with value and ability in the first column."""
  table = comparison_table.make_table(rows, titles(rows))
  headings = ['Method, value (base i→c)', *table.headings[1:]]
  return dataclasses.replace(table, headings=headings)


if __name__ == '__main__':
  sys.exit(main())
