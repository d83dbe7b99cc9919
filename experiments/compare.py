"""Compares every method on one budget: the paper's Tables 1, 2 and 4.

`python -m experiments.compare --preset=tiny --seeds=3` trains one base policy
for each seed, copies it to every method, and trains all else for each method
anew. It writes the table as compare.json, .csv and .md, and goes on where it
was stopped, method by method. Other flags are those of experiments.train, such
as --steps-stage1=50.
"""

from collections.abc import Sequence
import dataclasses
import pathlib
import sys

from experiments import many_runs, methods
from experiments.config import command_line, paper_settings, schema
from experiments.reporting import comparison_table

# Flags that this program sets for each run.
_OWN = ('--seed', '--method', '--stage')
_QUICK_SHARE = 0.3
_QUICK_PROBLEMS = 500


@dataclasses.dataclass(frozen=True)
class Options:
  """The methods and seeds to compare."""

  preset: str = schema.Settings.preset
  """A file in experiments/presets; its settings are the defaults."""
  methods: str = 'all'
  """Names, separated by commas; `python -m experiments.methods` lists them."""
  seeds: int | None = None
  """Runs of each method, with seeds 0, 1, ...: a base policy for each. None: 3,
  with --quick 1."""
  quick: bool = False
  """One seed, 30 % of the updates and 500 held-out problems: shows every method
  at work in 20 minutes, not how good it is. Leaves out the spread over seeds,
  and what a method learns late."""
  run_dir: str | None = None
  """Directory of all runs; what is found there is continued. None:
  runs/compare-PRESET, with --quick runs/compare-PRESET-quick."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Trains what is missing, writes and prints the table; the exit code."""
  options, settings = parse(arguments)
  root = directory(options)
  planned = plan_runs(options, settings, root)

  def show(console):
    rows = comparison_table.summarise(planned)
    console.print(comparison_table.make_table(rows, titles()))
    for note in paper_settings.deviations_in_words(settings):
      console.print(note, markup=False, highlight=False)
    console.print(
      f'written to {root}/compare.json, .csv and .md; a page of it: '
      f'python -m experiments.report {root}',
      markup=False,
      highlight=False,
      soft_wrap=True,
    )

  return many_runs.run_program(
    planned, root, lambda: write(root, planned, settings), show
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
    program='experiments.compare',
    document=__doc__,
    return_unknown_args=True,
  )
  reject_own(rest)
  if options.seeds is not None and options.seeds < 1:
    command_line.reject(f'--seeds={options.seeds}: must be at least 1')
  first = [f'--preset={options.preset}']
  if options.quick:
    first += quick_flags(options.preset)
  settings = command_line.parse_settings(
    [*first, *rest], program='experiments.compare'
  )
  for name in method_names(options.methods):
    command_line.reject_errors(dataclasses.replace(settings, method=name))
  return options, settings


def reject_own(arguments: Sequence[str]) -> None:
  """Exits with code 2 where a flag is one that this program sets itself."""
  for argument in arguments:
    name = argument.partition('=')[0]
    if name == '--dry-run':
      command_line.reject(
        '--dry-run shows one run: python -m experiments.train'
      )
    if name in _OWN:
      command_line.reject(
        f'{name} is set for each run: see --methods and --seeds'
      )


def method_names(text: str) -> list[str]:
  """Parses names with commas between, or `all`; in the order of METHODS."""
  wanted = list(methods.METHODS) if text == 'all' else text.split(',')
  unknown = [name for name in wanted if name not in methods.METHODS]
  if unknown:
    command_line.reject(
      f'there is no method {unknown[0]!r}; there are: '
      f'{", ".join(methods.METHODS)}'
    )
  return [name for name in methods.METHODS if name in wanted]


def quick_flags(preset: str) -> list[str]:
  """The flags that --quick stands for, from the preset's settings."""
  try:
    settings, _ = command_line.load_preset(preset)
  except ValueError as error:
    command_line.reject(str(error))
  return [
    f'--steps-stage1={round(_QUICK_SHARE * settings.steps_stage1)}',
    f'--steps-stage2={round(_QUICK_SHARE * settings.steps_stage2)}',
    f'--eval-problems={min(_QUICK_PROBLEMS, settings.eval_problems)}',
  ]


def titles() -> dict[str, str]:
  """Titles of the methods in the table, by name."""
  return {name: method.title for name, method in methods.METHODS.items()}


def directory(options: Options) -> pathlib.Path:
  """Directory of all runs."""
  quick = '-quick' if options.quick else ''
  return many_runs.root(
    options.run_dir or f'runs/compare-{options.preset}{quick}'
  )


def plan_runs(
  options: Options, settings: schema.Settings, root: pathlib.Path
) -> list[many_runs.PlannedRun]:
  """The runs, seed by seed: after the first seed there is a whole table."""
  return [
    many_runs.PlannedRun(
      dataclasses.replace(
        settings,
        method=name,
        seed=seed,
        run_dir=str(root / f'seed{seed}' / name),
      ),
    )
    for seed in range(options.seeds or (1 if options.quick else 3))
    for name in method_names(options.methods)
  ]


def write(
  root: pathlib.Path,
  planned: Sequence[many_runs.PlannedRun],
  settings: schema.Settings,
) -> None:
  """Writes compare.json, .csv and .md of the runs finished so far."""
  root.mkdir(parents=True, exist_ok=True)
  about = {'preset': settings.preset, 'budget': methods.budget(settings)}
  rows = comparison_table.summarise(planned)
  notes = paper_settings.deviations_in_words(settings)
  comparison_table.write(root / 'compare.json', rows, titles(), about, notes)


if __name__ == '__main__':
  sys.exit(main())
