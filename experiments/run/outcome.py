"""Evaluates a run's policies on held-out problems, into results.json."""

import pathlib
from typing import Any, Literal

import jax

from experiments import methods
from experiments.config import schema
from experiments.run import context, policies, run_directory, transcripts
from score_jax.evaluation import evaluate
from score_jax.rollout import randomness

# Prefix of validation metrics in metrics.jsonl.
VALIDATION = 'eval/'


def evaluate_policy(
  run: context.Run,
  policy: Any,
  *,
  temperature: float = 0.0,
  split: Literal['validation', 'test'] = 'test',
) -> evaluate.Evaluation:
  """Samples and grades the problems of a split; greedy at temperature 0.

  All of the validation problems, and --eval-problems of the test problems. A
  signal abandons it: what was sampled is sampled again when the run goes on.
  """
  problems = run.task.validation
  if split == 'test':
    problems = run.task.test[: run.settings.eval_problems]
  return evaluate.evaluate(
    run.sampler,
    run.layout.inference_params(policy),
    problems,
    run.grader,
    evaluation_key(run.settings),
    greedy=temperature == 0,
    temperature=temperature or 1.0,
    check=run.stop.check,
  )


def evaluation_key(settings: schema.Settings) -> jax.Array:
  """Random key of an evaluation that samples, the same for all policies."""
  return randomness.stream(settings.seed, 'evaluate', 'test', 0)


def validation_metrics(run: context.Run, policy: Any) -> dict[str, float]:
  """Greedy results on the validation problems, named as a step's metrics."""
  summary = evaluate_policy(run, policy, split='validation').summary()
  return {
    f'{VALIDATION}{name}': value
    for name, value in summary.items()
    if isinstance(value, float)
  }


def evaluate_once(run: context.Run, name: str, policy: Any) -> None:
  """Evaluates a policy and adds it to results.json, unless it is in it."""
  if _is_evaluated(run, name):
    return
  evaluation = evaluate_policy(policies.run_of(run, name), policy)
  transcript = run.directory.stage(name).evaluation
  write_transcripts(transcript, name, evaluation)
  if not evaluation.is_graded.any():
    raise run_directory.RunError(
      f'none of {len(evaluation.is_graded)} held-out problems could be graded; '
      f'{run.directory.shown(transcript)} has the reason of each. See '
      '--reward, and python -m experiments.doctor'
    )
  results = run.directory.read_results()
  results[name] = numbers = evaluation.summary()
  order = [methods.BASE, *run.stages]
  run.directory.write_results(
    {key: results[key] for key in order if key in results}
  )
  run.directory.push()
  later = ''
  if 'acc_t2' in numbers:
    later = f', {numbers["acc_t2"]:.1%} at the second'
  run.console.print(
    f'{name}: {numbers["acc_t1"]:.1%} of {numbers["problems"]:,} held-out '
    f'problems at the first attempt{later}.',
    highlight=False,
  )


def _is_evaluated(run: context.Run, name: str) -> bool:
  """Whether results.json has the policy, on --eval-problems problems."""
  found = run.directory.read_results().get(name)
  wanted = min(run.settings.eval_problems, len(run.task.test))
  return bool(found) and found['problems'] + found['ungraded'] == wanted


def is_complete(run: context.Run, plan: methods.Stages) -> bool:
  """Whether all stages of the plan are finished and evaluated. A collective."""
  return all(
    run.directory.stage(name).is_finished(stage.steps)
    for name, stage in plan.items()
  ) and all(_is_evaluated(run, name) for name in (methods.BASE, *plan))


def forget(run: context.Run, name: str) -> None:
  """Removes a policy that is about to be trained further from results.json."""
  results = run.directory.read_results()
  if results.pop(name, None):
    run.directory.write_results(results)


def write_transcripts(
  path: pathlib.Path, name: str, evaluation: evaluate.Evaluation
) -> None:
  """Writes every graded attempt of a policy to a JSON lines file."""
  log = transcripts.SamplesLog(name, path)
  log.write(
    0,
    transcripts.episodes(
      evaluation.problems, evaluation.attempts, evaluation.verdicts
    ),
  )
  log.note()
  log.close()
