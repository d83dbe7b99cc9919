"""Samples attempts at problems that you type.

On a terminal it asks; piped to, it takes one problem a line. `quit`, or the end
of the input, ends it.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import logging
import sys
from typing import Any

from rich import console as rich_console
from rich import text as rich_text

from experiments.config import command_line
from experiments.run import (
  building,
  context,
  policies,
  run_directory,
  transcripts,
)
from score_jax import types
from score_jax.evaluation import evaluate
from score_jax.rollout import randomness

_ENDS = ('quit', 'exit')
_PROMPT = 'problem> '


@dataclasses.dataclass(frozen=True)
class Options:
  """The policy to sample from, and how."""

  run_dir: str = 'runs/tiny'
  """Directory of the run, or its URL."""
  policy: str | None = None
  """base or a stage (stage1, stage2); None: the last that is finished."""
  temperature: float = 0.0
  """Sampling temperature; 0: greedy."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Answers until the input ends; returns the exit code."""
  options = command_line.parse(
    Options, arguments, program='experiments.chat', document=__doc__
  )
  if not 0 <= options.temperature < float('inf'):
    command_line.reject(
      f'--temperature={options.temperature}: must be at least 0'
    )
  logging.basicConfig(format='%(levelname)s: %(message)s')
  try:
    directory = run_directory.RunDirectory.existing(options.run_dir)
    run = building.reopen(directory, rich_console.Console())
    name = policies.choose_finished(directory, options.policy)
    policy = policies.stage_policy(run, name)
    run.console.print(f'{name} of {directory}; quit ends it.', highlight=False)
    with building.with_grader(policies.run_of(run, name)) as run:
      talk(options, run, policy)
  except run_directory.RunError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  return 0


def talk(options: Options, run: context.Run, policy: Any) -> None:
  """Samples and prints all attempts at every problem that is typed."""
  params = run.layout.inference_params(policy)
  for number, text in enumerate(_typed(run.console)):
    try:
      problem = read_problem(run.task, text)
      _check_fits(run, problem)
    except ValueError as error:
      run.console.print(
        str(error), style='yellow', markup=False, highlight=False
      )
      continue
    trajectory = run.sampler.sample(
      params,
      [problem],
      randomness.stream(run.settings.seed, 'evaluate', 'chat', number),
      greedy=options.temperature == 0,
      temperature=options.temperature or 1.0,
    )
    attempts = run.sampler.attempts(trajectory)
    if problem.reference:
      verdicts = evaluate.grade_attempts(run.grader, [problem], attempts)
      [episode] = transcripts.episodes([problem], attempts, verdicts)
      run.console.print(transcripts.render(episode))
    else:
      run.console.print(_ungraded(attempts[0]))


def read_problem(task: types.Task, text: str) -> types.Problem:
  """Parses a typed problem; its reference is empty where it is not known.

  Raises:
    ValueError: the text is no problem of the task.
  """
  if task.problem_from_text:
    return task.problem_from_text(text)
  return types.Problem(
    id=text,
    task=task.name,
    question=text,
    reference='',
    columns={'question': text},
  )


def _typed(console: rich_console.Console) -> Iterator[str]:
  """Yields lines that are not empty, until the input ends or says quit."""
  is_terminal = sys.stdin.isatty()
  while True:
    try:
      line = console.input(_PROMPT) if is_terminal else next(sys.stdin)
    except (EOFError, StopIteration, KeyboardInterrupt):
      return
    line = line.strip()
    if line.lower() in _ENDS:
      return
    if line:
      yield line


def _check_fits(run: context.Run, problem: types.Problem) -> None:
  longest = run.sampler.buckets[-1]
  size = len(run.chat_format.prompt(run.task.prompt(problem)))
  if size > longest:
    raise ValueError(
      f'the problem has {size} tokens with its prompt, and this run has none '
      f'of more than {longest}: shorten it'
    )


def _ungraded(attempts: Sequence[types.Attempt]) -> rich_text.Text:
  text = rich_text.Text()
  for attempt in attempts:
    text.append(f'attempt {attempt.turn}  ', 'bold')
    text.append(attempt.text.strip())
    if not attempt.finished:
      text.append('  cut off by its limit', 'yellow')
    text.append('\n')
  return text


if __name__ == '__main__':
  sys.exit(main())
