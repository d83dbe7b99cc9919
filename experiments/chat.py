"""Type a problem, see both attempts at it.

On a terminal it asks; piped to, it takes one problem a line. `quit`, or the end
of the input, ends it.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import logging
import sys
from typing import Any

from rich import console as rich_console
from rich import text as rich_text

from experiments.config import command_line, schema
from experiments.run import building, policies, run_directory, transcripts
from score_jax import types
from score_jax.evaluation import evaluate
from score_jax.rollout import randomness
from score_jax.tasks import arithmetic

_ENDS = ('quit', 'exit')
_PROMPT = 'problem> '


@dataclasses.dataclass(frozen=True)
class Options:
  """Whom to talk to, and how."""

  run_dir: str = 'runs/tiny'
  """Directory of the run."""
  policy: str | None = None
  """base or a stage (stage1, stage2); None: the last that is finished."""
  temperature: float = 0.0
  """Sampling temperature; 0: greedy."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Talks until the input ends; the exit code."""
  options = command_line.parse(
    Options, arguments, program='experiments.chat', document=__doc__
  )
  if not 0 <= options.temperature < float('inf'):
    command_line.reject(
      f'--temperature={options.temperature}: must be at least 0'
    )
  logging.basicConfig(format='%(levelname)s: %(message)s')
  console = rich_console.Console()
  run = run_directory.RunDirectory(options.run_dir)
  try:
    settings, parts = building.reopen(run)
    name = (
      options.policy
      or (policies.finished_policies(settings, run) or ['base'])[-1]
    )
    policies.choose_finished(settings, run, name)
    policy = policies.stage_policy(settings, parts, run, name)
    parts = policies.parts_for(settings, parts, name)
  except run_directory.RunError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  console.print(f'{name} of {run.path}; quit ends it.', highlight=False)
  with contextlib.closing(building.make_grader(parts.task)) as grader:
    talk(options, settings, parts, policy, grader, console)
  return 0


def talk(
  options: Options,
  settings: schema.Settings,
  parts: building.Parts,
  policy: Any,
  grader: types.Grader,
  console: rich_console.Console,
) -> None:
  """Shows both attempts at every problem that is typed."""
  view = parts.layout.view(policy)
  for number, text in enumerate(_typed(console)):
    try:
      problem = read_problem(settings, text)
      _check_fits(parts, problem)
    except ValueError as error:
      console.print(str(error), style='yellow', markup=False, highlight=False)
      continue
    trajectory = parts.sampler.sample(
      view,
      [problem],
      randomness.stream(settings.seed, 'evaluate', 'chat', number),
      greedy=options.temperature == 0,
      temperature=options.temperature or 1.0,
    )
    attempts = parts.sampler.attempts(trajectory)
    if problem.reference:
      [verdicts] = evaluate.grade_attempts(grader, [problem], attempts)
      episode = transcripts.Episode(problem, attempts[0], verdicts)
      console.print(transcripts.render(episode))
    else:
      console.print(_unjudged(attempts[0]))


def read_problem(settings: schema.Settings, text: str) -> types.Problem:
  """The problem that a person means; without a reference if nobody knows it.

  Raises:
    ValueError: the task has no such problems.
  """
  if settings.task == arithmetic.NAME:
    return arithmetic.problem_from_text(text, settings.arithmetic.digits)
  return types.Problem(
    id=text,
    task=settings.task,
    question=text,
    reference='',
    columns={'question': text},
  )


def _typed(console: rich_console.Console) -> Iterator[str]:
  """Lines that are not empty, until the input ends or says so."""
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


def _check_fits(parts: building.Parts, problem: types.Problem) -> None:
  sampler = parts.sampler
  size = len(sampler.chat_format.prompt(parts.task.prompt(problem)))
  if size > sampler.buckets[-1]:
    raise ValueError(
      f'the problem has {size} tokens with its prompt, and this run has none '
      f'of more than {sampler.buckets[-1]}: shorten it'
    )


def _unjudged(attempts: Sequence[types.Attempt]) -> rich_text.Text:
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
