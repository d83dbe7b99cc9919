"""Tasks by name: the one place where a task is added.

To add one, write a function that takes `Choices` and returns a `types.Task`
(its problems by split, the first prompt, the instruction between attempts, and
a function that makes its grader), and enter it in `TASKS` under the name that
users say, with the `answer_keys` function that tells two answers apart.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import functools
import hashlib
from typing import Any, NamedTuple

from score_jax import types
from score_jax.grading import (
  code_grading,
  direct_grading,
  math_grading,
  user_rewards,
)
from score_jax.tasks import (
  aiming,
  answer_keys,
  arithmetic,
  code_problems,
  gsm8k,
  math_problems,
  prompt_templates,
  records,
  word_problems,
)

# Tasks whose training problems can be shown solved, see `Choices.shots`.
FEW_SHOT = ('gsm8k', 'math', 'records')


@dataclasses.dataclass(frozen=True)
class Choices:
  """A user's choices about a task.

  Attributes:
    data_dir: directory of original files; None downloads.
    chat: prompts for a chat model; False for a plain-text model.
    first_prompt: replaces the first turn's text; `{question}` and `{column}`
      stand for the problem's. The task's stop texts go with it.
    instruction: replaces the text between attempts.
    stop_texts: further texts that end an attempt.
    shots: for `gsm8k`, `math` and `records` (not of code): so many of the
      training problems are shown solved before each problem, and not trained
      on.
    rewards: of training: `path.py:function` or `path.py:function@weight`;
      `task` or `task@weight` stands for the task's own grader. Empty: the
      task's own.
    correct_from: with `rewards`, an attempt is correct from this reward on;
      None: by the task's own grader.
    reward_timeout: seconds that a reward function may take for an attempt.
    sandbox: for programs: auto, bwrap, landlock, none.
    workers: grader processes; None for one less than there are cores.
    seed: seed of the problems that a task generates.
    file: JSONL or Parquet file of `repair` (given first attempts) and
      `records` (problems to train on).
    test_file: as `file`, problems to test on.
    columns: for `records`: columns of question, reference and id.
    grader: for `records`: 'math', 'number' or 'code'.
    num_validation: number of validation problems: of the task's own split where
      it has one, otherwise at most a tenth of its training problems.
    drop_near_duplicates: for `math`: drop training problems that nearly repeat
      test problems.
    options: for `arithmetic` and `aiming`: further arguments of their `load`.
  """

  data_dir: str | None = None
  chat: bool = True
  first_prompt: str | None = None
  instruction: str | None = None
  stop_texts: Sequence[str] = ()
  shots: int = 0
  rewards: Sequence[str] = ()
  correct_from: float | None = None
  reward_timeout: float = 60.0
  sandbox: str = 'auto'
  workers: int | None = None
  seed: int = 0
  file: str | None = None
  test_file: str | None = None
  columns: Mapping[str, str] | None = None
  grader: str = 'math'
  num_validation: int = 0
  drop_near_duplicates: bool = False
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Entry(NamedTuple):
  """A task: its loader, and its answer key (None: depends on the grader)."""

  load: Callable[[Choices], types.Task]
  answer_key: answer_keys.AnswerKey | None


def load_task(name: str, **choices: Any) -> types.Task:
  """The task of this name, with its problems, prompts and grader.

  Args:
    name: one of `TASKS`.
    **choices: fields of `Choices`.

  Raises:
    ValueError: no such task, or a choice that it or another needs is missing.

  Example:
    >>> task = sj.load_task('arithmetic', options={'digits': 2})
    >>> len(task.test), task.instruction
    (1000, 'Look again')
  """
  chosen = Choices(**choices)
  if chosen.correct_from is not None and not chosen.rewards:
    raise ValueError('correct_from is a reward: give rewards, too')
  if chosen.shots and name not in FEW_SHOT:
    raise ValueError(f'shots are for {", ".join(FEW_SHOT)}, not for {name}')
  task = _with_validation(_entry(name).load(chosen), chosen.num_validation)
  changes, stop_texts = {}, task.stop_texts
  if chosen.first_prompt:
    changes['prompt'] = prompt_templates.Templates(chosen.first_prompt).prompt
    stop_texts = ()
  if chosen.instruction:
    changes['instruction'] = chosen.instruction
  if chosen.rewards:
    changes['make_grader'] = functools.partial(
      _reward_grader,
      tuple(chosen.rewards),
      chosen.correct_from,
      chosen.reward_timeout,
      task.make_grader,
    )
  changes['stop_texts'] = (*stop_texts, *chosen.stop_texts)
  return dataclasses.replace(task, **changes)


def answer_key(name: str, grader: str = 'math') -> answer_keys.AnswerKey:
  """The answer key of a task.

  Args:
    name: one of `TASKS`.
    grader: as in `Choices`.

  Raises:
    ValueError: no such task or grader.
  """
  return _entry(name).answer_key or _entry(_alike(grader)).answer_key


def _entry(name: str) -> Entry:
  if name not in TASKS:
    raise ValueError(f'no task {name!r}; there are {", ".join(sorted(TASKS))}')
  return TASKS[name]


def _with_validation(task: types.Task, count: int) -> types.Task:
  """The task with so many validation problems, if need be of its training."""
  if task.validation or not count:
    return dataclasses.replace(task, validation=task.validation[:count])
  # By a digest of the id: the same ones in whatever order the file has them.
  ordered = sorted(
    task.train,
    key=lambda problem: hashlib.sha256(problem.id.encode()).digest(),
  )
  held_out = ordered[: min(count, len(ordered) // 10)]
  ids = {problem.id for problem in held_out}
  return dataclasses.replace(
    task,
    train=tuple(p for p in task.train if p.id not in ids),
    validation=tuple(held_out),
  )


def _reward_grader(
  rewards: Sequence[str],
  correct_from: float | None,
  timeout: float,
  make_grader: Callable[[], types.Grader],
) -> user_rewards.RewardGrader:
  """The task's grader, where it is needed, with a user's rewards."""
  weighted = []
  for name, weight in map(user_rewards.split_weight, rewards):
    function = None
    if name != 'task':
      function = user_rewards.FunctionGrader(
        user_rewards.load_function(name), timeout
      )
    weighted.append((function, weight))
  # Last: it may start workers, which an error above would leave behind.
  is_needed = correct_from is None or any(f is None for f, _ in weighted)
  grader = make_grader() if is_needed else None
  return user_rewards.RewardGrader(grader, weighted, correct_from)


def _generated(load: Callable[..., types.Task], chosen: Choices) -> types.Task:
  """A task that makes its own problems."""
  return load(
    seed=chosen.seed, num_validation=chosen.num_validation, **chosen.options
  )


def _gsm8k(chosen: Choices) -> types.Task:
  problems = gsm8k.load_problems(chosen.data_dir)
  return _math_task('gsm8k', problems, _number_grader(chosen), chosen)


def _math(chosen: Choices) -> types.Task:
  problems = math_problems.load_problems(
    chosen.data_dir, drop_near_duplicates=chosen.drop_near_duplicates
  )
  make_grader = _math_grader(chosen)
  problems = _readable(problems, make_grader)
  return _math_task('math', problems, make_grader, chosen)


def _math_task(
  name: str,
  problems: Mapping[str, Sequence[types.Problem]],
  make_grader: Callable[[], types.Grader],
  chosen: Choices,
) -> types.Task:
  """A task of mathematics, with the first training problems as examples."""
  shots = problems['train'][: chosen.shots]
  templates = prompt_templates.math_templates(chat=chosen.chat, shots=shots)
  problems = {**problems, 'train': problems['train'][len(shots) :]}
  return _task(name, problems, templates, make_grader)


def _readable(problems, make_grader) -> dict[str, list[types.Problem]]:
  with contextlib.closing(make_grader()) as grader:
    return {
      split: math_grading.drop_unreadable(held, grader)
      for split, held in problems.items()
    }


def _mbpp(chosen: Choices) -> types.Task:
  problems = code_problems.load_mbpp(chosen.data_dir)
  return _task(
    'mbpp', problems, _mbpp_templates(problems, chosen), _code_grader(chosen)
  )


def _mbpp_templates(problems, chosen: Choices) -> prompt_templates.Templates:
  # The paper's prompt shows tasks 2, 3 and 4.
  return prompt_templates.mbpp_templates(
    problems['prompt'][1:4], chat=chosen.chat
  )


def _humaneval(chosen: Choices) -> types.Task:
  test = code_problems.load_humaneval(chosen.data_dir)
  templates = prompt_templates.humaneval_templates(chat=chosen.chat)
  return _task(
    'humaneval', {'train': [], 'test': test}, templates, _code_grader(chosen)
  )


def _repair(chosen: Choices) -> types.Task:
  if chosen.file is None:
    raise ValueError(
      'the task repair needs a file of given first attempts (JSONL with '
      'task_id and given_attempt)'
    )
  mbpp = code_problems.load_mbpp(chosen.data_dir)
  problems = {
    split: code_problems.load_repair(chosen.file, mbpp[split])
    for split in ('train', 'test')
  }
  if not any(problems.values()):
    raise ValueError(f'{chosen.file} names no task of MBPP')
  return _task(
    'repair', problems, _mbpp_templates(mbpp, chosen), _code_grader(chosen)
  )


def _records(chosen: Choices) -> types.Task:
  if chosen.file is None:
    raise ValueError('the task records needs a file of problems')
  alike = _alike(chosen.grader)
  make_grader = _GRADERS[chosen.grader](chosen)
  files = {'train': chosen.file, 'test': chosen.test_file}
  problems = {
    split: records.load_problems(file, task='records', columns=chosen.columns)
    if file
    else []
    for split, file in files.items()
  }
  if alike == 'math' and chosen.correct_from is None:
    every, problems = problems, _readable(problems, make_grader)
    for split, file in files.items():
      if every[split] and not problems[split]:
        raise ValueError(
          f'the grader math can read no reference of {file}: choose another '
          'grader or, with rewards, correct_from'
        )
  if alike == 'humaneval':
    templates = prompt_templates.humaneval_templates(chat=chosen.chat)
    return _task('records', problems, templates, make_grader)
  return _math_task('records', problems, make_grader, chosen)


def _alike(grader: str) -> str:
  """The task whose prompts and answer keys `records` of a grader have."""
  if grader not in _GRADERS:
    raise ValueError(
      f'no grader {grader!r}; there are {", ".join(_GRADERS)}, and rewards of '
      'your own (path.py:function)'
    )
  return {'number': 'gsm8k', 'math': 'math', 'code': 'humaneval'}[grader]


def _number_grader(chosen: Choices) -> Callable[[], types.Grader]:
  del chosen
  return functools.partial(
    direct_grading.DirectGrader, direct_grading.grade_number
  )


def _math_grader(chosen: Choices) -> Callable[[], types.Grader]:
  return functools.partial(math_grading.MathGrader, workers=chosen.workers)


def _code_grader(chosen: Choices) -> Callable[[], types.Grader]:
  return functools.partial(
    code_grading.CodeGrader, sandbox=chosen.sandbox, workers=chosen.workers
  )


_GRADERS = {
  'number': _number_grader,
  'math': _math_grader,
  'code': _code_grader,
}


def _task(
  name: str,
  problems: Mapping[str, Sequence[types.Problem]],
  templates: prompt_templates.Templates,
  make_grader: Callable[[], types.Grader],
) -> types.Task:
  return types.Task(
    name=name,
    train=problems['train'],
    test=problems['test'],
    prompt=templates.prompt,
    instruction=templates.instruction,
    make_grader=make_grader,
    refine_instruction=templates.refine_instruction,
    validation=problems.get('validation', ()),
    stop_texts=templates.stop_texts,
  )


TASKS = {
  'arithmetic': Entry(
    functools.partial(_generated, arithmetic.load), answer_keys.digits
  ),
  'aiming': Entry(
    functools.partial(_generated, aiming.load), answer_keys.digits
  ),
  'word_problems': Entry(
    functools.partial(_generated, word_problems.load), answer_keys.bare_number
  ),
  'gsm8k': Entry(_gsm8k, answer_keys.number),
  'math': Entry(_math, answer_keys.expression),
  'mbpp': Entry(_mbpp, answer_keys.program),
  'humaneval': Entry(_humaneval, answer_keys.program),
  'repair': Entry(_repair, answer_keys.program),
  'records': Entry(_records, None),
}
