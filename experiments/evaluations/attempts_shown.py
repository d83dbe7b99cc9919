"""What a person reads of an evaluation: progress, attempts, lost answers."""

from collections.abc import Callable, Mapping
import time

from rich import console as rich_console

from experiments.run import progress, transcripts
from score_jax.evaluation import evaluate

_UNPARSEABLE = 'unparseable'


def progress_of(
  name: str,
  console: rich_console.Console,
  clock: progress.Clock = time.monotonic,
) -> Callable[[int, int], None]:
  """Returns what prints a line after each batch but the last.

  Args:
    name: of the policy.
    console: to print to.
    clock: seconds.
  """
  pace = progress.Pace(clock)
  last = 0

  def show(done: int, problems: int) -> None:
    nonlocal last
    pace.tick(done - last)
    last = done
    if done < problems:
      left = pace.time_left(problems - done)
      console.print(
        f'{name}: {done} of {problems} problems, left {left}', highlight=False
      )

  return show


def show(
  console: rich_console.Console,
  graded: Mapping[str, evaluate.Evaluation],
  count: int,
) -> None:
  """Prints the first episodes of each policy."""
  for name, evaluation in graded.items():
    parts = (evaluation.problems, evaluation.attempts, evaluation.verdicts)
    shown = transcripts.episodes(*(part[:count] for part in parts))
    transcripts.print_episodes(console, shown, name)


def say_unparseable(
  console: rich_console.Console, graded: Mapping[str, evaluate.Evaluation]
) -> None:
  """Prints the share of attempts in which no answer could be read, if any."""
  for name, evaluation in graded.items():
    shares = unparseable(evaluation)
    if not any(shares):
      continue
    line = f'{name}: no answer can be read in '
    if min(shares) == 1:
      line += (
        'any attempt, so that accuracies say nothing about the policy. See '
        'what it wrote, and show it the form that is graded: --shots, '
        '--first-prompt, --stop, --max-attempt-tokens'
      )
    else:
      line += ', '.join(
        f'{share:.1%} of attempts {turn}'
        for turn, share in enumerate(shares, start=1)
      )
    console.print(line, highlight=False, soft_wrap=True)


def unparseable(evaluation: evaluate.Evaluation) -> list[float]:
  """Share of each turn's attempts in which no answer could be read, [K]."""
  turns = list(zip(*evaluation.verdicts, strict=True))
  return [
    sum(verdict.label == _UNPARSEABLE for verdict in turn) / len(turn)
    for turn in turns
  ]
