"""The flags of experiments.evaluate, and what they make it measure."""

from collections.abc import Iterator, Sequence
import dataclasses
import pathlib
from typing import Any, Literal

from experiments.config import command_line, groups
from score_jax.evaluation import measures
from score_jax.evaluation import scaling as scaling_lib

ALL = 'all'
_MOST_ATTEMPTS = 50
_SCALING_SAMPLES = max(scaling_lib.BUDGETS)


@dataclasses.dataclass(frozen=True)
class Data:
  """A user's own problems."""

  file: str | None = None
  """JSONL or Parquet of problems to evaluate on instead of the run's: the run's
  prompts and grader are used, or those of --task. For --task=repair, given
  programs (task_id, given_attempt)."""
  question: str = 'question'
  """Column of the question."""
  reference: str = 'reference'
  """Column of the reference answer."""
  id: str = 'id'
  """Column of the identifier; where there is none, the row's number."""
  grader: Literal['math', 'number', 'code'] = 'math'
  """What grades the attempts at --task=records."""


@dataclasses.dataclass(frozen=True)
class Options:
  """Which policies to evaluate, on what, and how."""

  run_dir: str = 'runs/tiny'
  """Directory of the run, or its URL; its settings are used."""
  policy: str = ALL
  """base, a stage (stage1, stage2), or all that are finished."""
  name: str | None = None
  """Keep the numbers as RUN_DIR/evaluations/NAME.json, where experiments.report
  finds them, and the attempts beside it. None: named after the flags, e.g.
  attempts-10; the plain repetition of the run's own evaluation is not kept."""
  output: str | None = None
  """JSON file to write the numbers to; None: they are only printed (and kept,
  see --name)."""

  task: str | None = None
  """Evaluate on another task than the run's, e.g. --task=humaneval of a run
  that was trained on mbpp."""
  data_dir: str | None = None
  """Directory of that task's data set."""
  first_prompt: str | None = None
  """Replaces that task's first message; {question} and {column} are the
  problem's."""
  instruction: str | None = None
  """Replaces what that task says between the attempts."""
  split: Literal['test', 'validation', 'train'] = 'test'
  """Which of the task's problems."""
  eval_problems: int | None = None
  """Problems, at most as many as there are; None: as in the run."""
  given_attempts: str | None = None
  """Take first attempts from here instead of sampling them: a policy of this
  run (base), another run's (RUN/stage1), or a JSONL file (id, given_attempt).
  Only the second attempts are then the policy's own."""

  temperature: float = 0.0
  """Sampling temperature; 0: greedy, as in the run."""
  samples: int = 1
  """Episodes of each problem; more than one needs a --temperature."""
  batch_size: int = 256
  """Episodes decoded at once: fewer need less memory, and show progress."""
  show: int = 3
  """Episodes of each policy to print."""
  attempts: int | None = None
  """Attempts at each problem, at most 50, with the instruction before each but
  the first; None: as in the run. No retraining is needed for more."""

  history: Literal['all', 'last'] = 'all'
  """What an attempt after the second one sees: all attempts before it, as the
  paper writes it, or the last one alone, as if it were the first of two."""

  pass_at: str = ''
  """Numbers k of samples for pass@k of each turn, such as 1,8,32."""
  majority_at: str = ''
  """Numbers k of samples for a majority vote of each turn, such as 8,32."""
  scaling: bool = False
  """Inference scaling: votes of 2K attempts against K that are corrected once,
  2K = 2 to 32; draws 32 episodes at temperature 0.7 where --samples and
  --temperature do not say otherwise."""
  vote: scaling_lib.VoteSet = 'last'
  """Who votes in corrected episodes: the last attempts, or all of both turns.
  The paper does not say; the last one is what the policy hands in."""
  by: str | None = None
  """Also by groups of problems: a column of the data set, such as level, or
  longest_carry (arithmetic) or question_length."""
  compare: str | None = None
  """Paired tests of every policy against this one: a policy of this run (base)
  or of another one (RUN/stage2), on the same problems in the same way."""

  data: Data = Data()
  processes: groups.Processes = groups.Processes()


def parse(arguments: Sequence[str], document: str) -> Options:
  """The options of a command line; exits with code 2 where it is wrong.

  `--scaling` completes what is left open of --samples and --temperature.
  """
  options = command_line.parse(
    Options, arguments, program='experiments.evaluate', document=document
  )
  if options.scaling:
    options = _completed(options)
  errors = find_errors(options)
  if errors:
    command_line.reject('\n       '.join(errors))
  return options


def _completed(options: Options) -> Options:
  return dataclasses.replace(
    options,
    samples=_SCALING_SAMPLES if options.samples == 1 else options.samples,
    temperature=options.temperature or scaling_lib.TEMPERATURE,
  )


def find_errors(options: Options) -> list[str]:
  """One sentence for each value that is out of range or contradicts another."""
  return [*_sampling_errors(options), *_name_errors(options)]


def _sampling_errors(options: Options) -> Iterator[str]:
  count, samples = options.eval_problems, options.samples
  temperature, attempts = options.temperature, options.attempts
  if count is not None and count < 1:
    yield f'--eval-problems={count}: must be at least 1'
  if not 0 <= temperature < float('inf'):
    yield f'--temperature={temperature}: must be at least 0'
  if samples < 1:
    yield f'--samples={samples}: must be at least 1'
  if options.batch_size < 1:
    yield f'--batch-size={options.batch_size}: must be at least 1'
  if options.show < 0:
    yield f'--show={options.show}: must be at least 0'
  if samples > 1 and temperature == 0:
    yield (
      f'--samples={samples}: greedy episodes of a problem are all the same; '
      'give a --temperature, such as --temperature=0.7'
    )
  if attempts is not None and not 1 <= attempts <= _MOST_ATTEMPTS:
    yield f'--attempts={attempts}: must be in [1, {_MOST_ATTEMPTS}]'
  if options.scaling and attempts == 1:
    yield (
      '--scaling compares first with second attempts: --attempts=1 has no '
      'second'
    )
  for name in ('pass_at', 'majority_at'):
    text = getattr(options, name)
    if any(
      not k.isdecimal() or not 1 <= int(k) <= samples for k in _parts(text)
    ):
      yield (
        f'--{name.replace("_", "-")}={text}: must be numbers in '
        f'[1, {samples}], the --samples of each problem, such as 1,8'
      )


def _name_errors(options: Options) -> Iterator[str]:
  output = pathlib.Path(options.output or '.').resolve()
  if options.output and not output.parent.is_dir():
    yield f'--output={options.output}: there is no {output.parent}'
  name = options.name
  if name and pathlib.Path(name).name != name:
    yield f'--name={name}: must be a file name without directories'


def wanted(options: Options) -> measures.Wanted:
  """The measures that the options ask for, besides the summary."""
  return measures.Wanted(
    # The plain repetition of a run's evaluation is what results.json holds.
    changes=bool(name_of(options)),
    pass_at=tuple(map(int, _parts(options.pass_at))),
    majority_at=tuple(map(int, _parts(options.majority_at))),
    inference_scaling=options.scaling,
    vote=options.vote,
    by=options.by,
  )


def _parts(text: str) -> list[str]:
  return [part.strip() for part in text.split(',')] if text else []


def name_of(options: Options) -> str:
  """Name to keep the numbers under; '' where they are not kept."""
  if options.name:
    return options.name
  words = [
    _word('task', options.task),
    _word('data', options.data.file and pathlib.Path(options.data.file).stem),
    '' if options.split == 'test' else options.split,
    _word('given', options.given_attempts and _last(options.given_attempts)),
    _word('attempts', options.attempts),
    'history-last' if options.history == 'last' else '',
    f'scaling-{options.vote}' if options.scaling else '',
    _word('pass', '-'.join(_parts(options.pass_at))),
    _word('majority', '-'.join(_parts(options.majority_at))),
    _word('by', options.by),
    _word('against', options.compare and _last(options.compare)),
  ]
  words = [word for word in words if word]
  if not words and options.temperature:
    words = [f'temperature-{options.temperature:g}']
  return '_'.join(words)


def _word(label: str, value: Any) -> str:
  return f'{label}-{value}' if value else ''


def _last(path: str) -> str:
  """`runs/other/stage2` -> `other-stage2`."""
  parts = pathlib.Path(path).parts[-2:]
  return '-'.join([*parts[:-1], pathlib.Path(parts[-1]).stem])
