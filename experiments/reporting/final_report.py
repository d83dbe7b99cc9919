"""The report of a finished run: curves, page, transcripts, table, paths."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments import methods
from experiments.config import schema
from experiments.reporting import (
  curves,
  measure_tables,
  plots,
  report_page,
  tables,
)
from experiments.run import context, run_directory, transcripts
from score_jax import distributed

_PRINTED = 3


def report(run: context.Run) -> None:
  """Draws curves and page; prints transcripts, table, paths. A collective."""
  results = run.directory.read_results()
  # The other processes wait, and leave together with the first.
  distributed.by_first(lambda: _report(run, results))


def _report(run: context.Run, results: Mapping[str, Any]) -> None:
  names = [name for name in run.stages if name in results]
  for name in names[-1:]:
    transcripts.print_episodes(
      run.console,
      _telling_episodes(run.directory.stage(name)),
      methods.policy_label(run.settings, name),
    )
  _draw_curves(run, results)
  report_page.write([run.directory.place], run.directory.path)
  for table in make_tables(run.settings, results):
    run.console.print(table)
  _print_places(run, names)


def make_tables(
  settings: schema.Settings, results: Mapping[str, Any]
) -> Iterator[tables.Table]:
  """The paper's table, made from the contents of results.json, and others."""
  summaries = {
    methods.policy_label(settings, name): summary
    for name, summary in results.items()
  }
  yield tables.console_table(
    summaries, correct_from=settings.correct_from_reward
  )
  yield from measure_tables.others(summaries)


def _draw_curves(run: context.Run, results: Mapping[str, Any]) -> None:
  """Draws the curves of all stages that have made an update."""
  names = {name: methods.policy_label(run.settings, name) for name in results}
  records, points = curves.read(run.directory, results, names)
  if not records:
    return
  plots.learning_curves(
    records,
    run.directory.curves,
    evaluations=points,
    title=f'{run.settings.preset}: accuracy of each turn',
  )


def _telling_episodes(
  stage: run_directory.StageDirectory,
) -> list[transcripts.Episode]:
  """At most three episodes, one of each outcome, corrections first."""
  wanted = [(0.0, 1.0), (0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]
  found: dict[tuple, transcripts.Episode] = {}
  for episode in transcripts.read_episodes(stage.evaluation):
    scores = tuple(verdict.score for verdict in episode.verdicts[:2])
    found.setdefault(scores, episode)
  return [found[scores] for scores in wanted if scores in found][:_PRINTED]


def _print_places(run: context.Run, names: list[str]) -> None:
  directory = run.directory
  paths = {
    'results': directory.shown(directory.results),
    'learning curves': directory.shown(directory.curves),
    'report page': directory.shown(directory.report),
    'settings': directory.shown(directory.config),
  } | {name: directory.stage(name).place for name in (methods.BASE, *names)}
  lines = [f'{title:16} {path}' for title, path in paths.items()] + [
    'Type a problem yourself:  python -m experiments.chat '
    f'--run-dir={directory}'
  ]
  for line in lines:
    # However long, as it is: paths and commands are to be copied.
    run.console.print(line, markup=False, highlight=False, soft_wrap=True)
