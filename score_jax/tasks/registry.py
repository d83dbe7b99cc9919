"""Tasks by name: the one place where `--task` is read."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

from score_jax import types
from score_jax.grading import code_grading, math_grading, user_rewards
from score_jax.tasks import (
  arithmetic,
  code_problems,
  gsm8k,
  math_problems,
  prompts,
  records,
)


@dataclasses.dataclass(frozen=True)
class Choices:
  """What a user may say about a task.

  Attributes:
    data_dir: directory of original files; None downloads.
    chat: prompts for a chat model; False for a plain-text model.
    first_prompt: replaces the first turn's text; `{question}` and `{column}`
      stand for the problem's.
    instruction: replaces the text between attempts.
    rewards: `path.py:function` or `path.py:function@weight`; `task` or
      `task@weight` stands for the task's own grader. Empty: the task's own.
    sandbox: for programs: auto, bwrap, landlock, none.
    workers: grader processes; None for one less than there are cores.
    seed: of what a task draws.
    file: JSONL or Parquet file of `repair` (given first attempts) and
      `records` (problems to train on).
    test_file: as `file`, problems to test on.
    columns: for `records`: columns of question, reference and id.
    grader: for `records`: 'math', 'number' or 'code'.
    drop_near_duplicates: for `math`: drop training problems that nearly repeat
      test problems.
    options: for `arithmetic`: what its `load` takes besides.
  """

  data_dir: str | None = None
  chat: bool = True
  first_prompt: str | None = None
  instruction: str | None = None
  rewards: Sequence[str] = ()
  sandbox: str = 'auto'
  workers: int | None = None
  seed: int = 0
  file: str | None = None
  test_file: str | None = None
  columns: Mapping[str, str] | None = None
  grader: str = 'math'
  drop_near_duplicates: bool = False
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def load_task(name: str, **choices: Any) -> types.Task:
  """The task of this name, with its problems, prompts and grader.

  Args:
    name: one of `TASKS`.
    **choices: fields of `Choices`.

  Raises:
    ValueError: no such task, or a choice it cannot do without.
  """
  if name not in TASKS:
    raise ValueError(f'no task {name!r}; there are {", ".join(sorted(TASKS))}')
  chosen = Choices(**choices)
  task = TASKS[name](chosen)
  if chosen.rewards:
    task = dataclasses.replace(
      task,
      make_grader=functools.partial(
        _reward_grader, tuple(chosen.rewards), task.make_grader
      ),
    )
  return dataclasses.replace(
    task,
    prompt=prompts.Prompts(chosen.first_prompt, '').ask
    if chosen.first_prompt
    else task.prompt,
    instruction=chosen.instruction or task.instruction,
  )


def _reward_grader(
  rewards: Sequence[str], make_grader: Callable[[], types.Grader]
) -> types.Grader:
  """The sum of a user's rewards."""
  named = [user_rewards.split_weight(reward) for reward in rewards]
  graders = [
    make_grader()
    if name == 'task'
    else user_rewards.FunctionGrader(user_rewards.load_function(name))
    for name, _ in named
  ]
  if len(graders) == 1 and named[0][1] == 1:
    return graders[0]
  return user_rewards.WeightedGrader(graders, [weight for _, weight in named])


def _arithmetic(chosen: Choices) -> types.Task:
  return arithmetic.load(seed=chosen.seed, **chosen.options)


def _gsm8k(chosen: Choices) -> types.Task:
  problems = gsm8k.load_problems(chosen.data_dir)
  texts = prompts.math_prompts(chat=chosen.chat)
  return _task('gsm8k', problems, texts, gsm8k.make_grader)


def _math(chosen: Choices) -> types.Task:
  problems = math_problems.load_problems(
    chosen.data_dir, drop_near_duplicates=chosen.drop_near_duplicates
  )
  make_grader = functools.partial(
    math_grading.MathGrader, workers=chosen.workers
  )
  texts = prompts.math_prompts(chat=chosen.chat)
  return _task('math', _readable(problems, make_grader), texts, make_grader)


def _readable(problems, make_grader) -> dict[str, list[types.Problem]]:
  grader = make_grader()
  try:
    return {
      split: math_grading.drop_unreadable(held, grader)
      for split, held in problems.items()
    }
  finally:
    grader.close()


def _mbpp(chosen: Choices) -> types.Task:
  problems = code_problems.load_mbpp(chosen.data_dir)
  # The paper's prompt shows tasks 2, 3 and 4.
  texts = prompts.mbpp_prompts(problems['prompt'][1:4], chat=chosen.chat)
  return _task('mbpp', problems, texts, _code_grader(chosen))


def _humaneval(chosen: Choices) -> types.Task:
  problems = {
    'train': [],
    'test': code_problems.load_humaneval(chosen.data_dir),
  }
  texts = prompts.humaneval_prompts(chat=chosen.chat)
  return _task('humaneval', problems, texts, _code_grader(chosen))


def _repair(chosen: Choices) -> types.Task:
  if chosen.file is None:
    raise ValueError(
      '--task=repair needs a file of given first attempts (JSONL with task_id '
      'and given_attempt)'
    )
  mbpp = code_problems.load_mbpp(chosen.data_dir)
  held = {split: mbpp[split] for split in ('train', 'test')}
  problems = {
    split: code_problems.load_repair(chosen.file, known, skip_unknown=True)
    for split, known in held.items()
  }
  if not any(problems.values()):
    raise ValueError(f'{chosen.file} names no task of MBPP')
  texts = prompts.mbpp_prompts(mbpp['prompt'][1:4], chat=chosen.chat)
  return _task('repair', problems, texts, _code_grader(chosen))


def _records(chosen: Choices) -> types.Task:
  if chosen.file is None:
    raise ValueError('--task=records needs a file of problems')
  graders = {
    'number': gsm8k.make_grader,
    'math': functools.partial(math_grading.MathGrader, workers=chosen.workers),
    'code': _code_grader(chosen),
  }
  if chosen.grader not in graders:
    raise ValueError(
      f'no grader {chosen.grader!r}; there are {", ".join(graders)}, and '
      '--reward=path.py:function'
    )
  files = {'train': chosen.file, 'test': chosen.test_file}
  problems = {
    split: records.load_problems(file, task='records', columns=chosen.columns)
    if file
    else []
    for split, file in files.items()
  }
  if chosen.grader == 'math' and not chosen.rewards:
    problems = _readable(problems, graders['math'])
  texts = prompts.math_prompts(chat=chosen.chat)
  if chosen.grader == 'code':
    texts = prompts.humaneval_prompts(chat=chosen.chat)
  return _task('records', problems, texts, graders[chosen.grader])


def _code_grader(chosen: Choices) -> Callable[[], types.Grader]:
  return functools.partial(
    code_grading.CodeGrader, sandbox=chosen.sandbox, workers=chosen.workers
  )


def _task(name, problems, texts: prompts.Prompts, make_grader) -> types.Task:
  return types.Task(
    name=name,
    train=problems['train'],
    test=problems['test'],
    prompt=texts.ask,
    instruction=texts.instruction,
    make_grader=make_grader,
  )


TASKS: dict[str, Callable[[Choices], types.Task]] = {
  'arithmetic': _arithmetic,
  'gsm8k': _gsm8k,
  'math': _math,
  'mbpp': _mbpp,
  'humaneval': _humaneval,
  'repair': _repair,
  'records': _records,
}
