"""What came of a run: results.json, the table, the curves, transcripts."""

from collections.abc import Mapping, Sequence
import json
from typing import Any

import jax
from rich import console as rich_console

from experiments import methods
from experiments.config import schema
from experiments.reporting import curves, plots, report_page, tables
from experiments.run import building, policies, run_directory, transcripts
from score_jax import distributed, types
from score_jax.evaluation import evaluate
from score_jax.io import json_files
from score_jax.rollout import randomness

_PRINTED = 3


def evaluate_policy(
  settings: schema.Settings,
  parts: building.Parts,
  policy: Any,
  grader: types.Grader,
  *,
  samples_per_problem: int = 1,
  temperature: float = 0.0,
) -> evaluate.Evaluation:
  """Attempts at the held-out problems, judged; greedy at temperature 0."""
  return evaluate.evaluate(
    parts.sampler,
    parts.layout.view(policy),
    parts.task.test[: settings.eval_problems],
    grader,
    evaluation_key(settings),
    samples_per_problem=samples_per_problem,
    greedy=temperature == 0,
    temperature=temperature or 1.0,
  )


def evaluation_key(settings: schema.Settings) -> jax.Array:
  """The random numbers of an evaluation that samples."""
  return randomness.stream(settings.seed, 'evaluate', 'test', 0)


def held_out_metrics(
  settings: schema.Settings,
  parts: building.Parts,
  grader: types.Grader,
  policy: Any,
) -> dict[str, float]:
  """The numbers of `evaluate_policy`, as metrics of a training step."""
  summary = evaluate_policy(settings, parts, policy, grader).summary()
  return {
    f'{curves.HELD_OUT}{name}': value
    for name, value in summary.items()
    if isinstance(value, float)
  }


def evaluate_once(
  settings: schema.Settings,
  parts: building.Parts,
  run: run_directory.RunDirectory,
  name: str,
  policy: Any,
  grader: types.Grader,
  console: rich_console.Console,
) -> None:
  """Adds a policy to results.json, unless it is there already."""
  if _is_evaluated(settings, parts, run, name):
    return
  own_parts = policies.parts_for(settings, parts, name)
  evaluation = evaluate_policy(settings, own_parts, policy, grader)
  write_transcripts(run, name, evaluation)
  results = read_results(run)
  results[name] = evaluation.summary()
  order = [methods.BASE, *methods.stages(settings)]
  json_files.write_json(
    run.results, {key: results[key] for key in order if key in results}
  )
  numbers = results[name]
  console.print(
    f'{name}: {numbers["acc_t1"]:.1%} of {numbers["problems"]:,} held-out '
    'problems at the '
    f'first attempt, {numbers["acc_t2"]:.1%} at the second.',
    highlight=False,
  )


def _is_evaluated(
  settings: schema.Settings,
  parts: building.Parts,
  run: run_directory.RunDirectory,
  name: str,
) -> bool:
  """Whether results.json has the policy, on as many problems as asked for."""
  there = read_results(run).get(name)
  wanted = min(settings.eval_problems, len(parts.task.test))
  return bool(there) and there['problems'] + there['ungraded'] == wanted


def is_complete(
  settings: schema.Settings,
  parts: building.Parts,
  run: run_directory.RunDirectory,
  plan: methods.Stages,
) -> bool:
  """Whether all phases of the plan were made and evaluated."""
  return all(
    run.stage(name).is_finished(phase.steps) for name, phase in plan.items()
  ) and all(
    _is_evaluated(settings, parts, run, name) for name in ('base', *plan)
  )


def forget(run: run_directory.RunDirectory, name: str) -> None:
  """Takes a policy that is going to change out of results.json."""
  results = read_results(run)
  if results.pop(name, None):
    json_files.write_json(run.results, results)


def write_transcripts(
  run: run_directory.RunDirectory, name: str, evaluation: evaluate.Evaluation
) -> None:
  """Writes every judged attempt of an evaluation to evaluation.jsonl."""
  path = run.stage(name).path / 'evaluation.jsonl'
  distributed.by_first(lambda: path.unlink(missing_ok=True))
  log = transcripts.SamplesLog(name, path)
  log.write(
    0,
    [
      transcripts.Episode(*episode)
      for episode in zip(
        evaluation.problems, evaluation.attempts, evaluation.verdicts
      )
    ],
  )
  log.close()


def read_results(run: run_directory.RunDirectory) -> dict[str, Any]:
  """What results.json holds; nothing where there is none. Processes talk."""
  return distributed.by_first(lambda: _read_results(run))


def _read_results(run):
  if not run.results.exists():
    return {}
  return json.loads(run.results.read_text())


def report(
  settings: schema.Settings,
  run: run_directory.RunDirectory,
  console: rich_console.Console,
) -> None:
  """Draws curves and page, prints transcripts, table, where everything is."""
  results = read_results(run)
  # The others wait, and leave together with it.
  distributed.by_first(lambda: _report(settings, run, results, console))


def _report(settings, run, results, console) -> None:
  names = [name for name in methods.stages(settings) if name in results]
  for name in names[-1:]:
    transcripts.print_episodes(
      console,
      _telling_episodes(run.stage(name)),
      methods.policy_label(settings, name),
    )
  _draw_curves(settings, run, results)
  report_page.write([run.path], run.path)
  console.print(make_table(settings, results))
  _print_places(run, names, console)


def make_table(
  settings: schema.Settings, results: Mapping[str, Any]
) -> tables.Table:
  """The paper's table of what results.json holds."""
  return tables.console_table(
    {
      methods.policy_label(settings, name): summary
      for name, summary in results.items()
    }
  )


def _draw_curves(
  settings: schema.Settings,
  run: run_directory.RunDirectory,
  results: Mapping[str, Any],
) -> None:
  """Draws every stage that has made an update, if there is one."""
  names = {name: methods.policy_label(settings, name) for name in results}
  records, points = curves.read(run, results, names)
  if not records:
    return
  plots.learning_curves(
    records,
    run.curves,
    evaluations=points,
    evaluation_label='held-out, greedy',
    title=f'{settings.preset}: accuracy of each turn',
  )


def _telling_episodes(
  stage: run_directory.StageDirectory,
) -> list[transcripts.Episode]:
  """A problem that was corrected, one that was not, one that was spoilt."""
  wanted = [(0.0, 1.0), (0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]
  found: dict[tuple, transcripts.Episode] = {}
  for episode in transcripts.read_episodes(stage.path / 'evaluation.jsonl'):
    scores = tuple(verdict.score for verdict in episode.verdicts[:2])
    found.setdefault(scores, episode)
  return [found[scores] for scores in wanted if scores in found][:_PRINTED]


def _print_places(
  run: run_directory.RunDirectory,
  names: Sequence[str],
  console: rich_console.Console,
) -> None:
  places = {
    'results': run.results,
    'learning curves': run.curves,
    'report page': run.report,
    'settings': run.config,
  } | {f'{name}': run.stage(name).path for name in ('base', *names)}
  for label, path in places.items():
    _print_plain(console, f'{label:16} {path}')
  _print_plain(
    console,
    'Type a problem yourself:  python -m experiments.chat '
    f'--run-dir={run.path}',
  )


def _print_plain(console: rich_console.Console, line: str) -> None:
  """One line, however long, as it is: paths and commands are to be copied."""
  console.print(line, markup=False, highlight=False, soft_wrap=True)
