"""Tasks by name: the one place where `--task` is read."""

from collections.abc import Callable, Sequence

from score_jax import types
from score_jax.tasks import gsm8k, prompts


def load_task(
  name: str,
  *,
  data_dir: str | None = None,
  chat: bool = True,
  first_prompt: str | None = None,
  instruction: str | None = None,
) -> types.Task:
  """The task of this name, with its problems, prompts and grader.

  Args:
    name: one of `TASKS`.
    data_dir: directory of original files; None downloads.
    chat: prompts for a chat model; False for a plain-text model.
    first_prompt: replaces the first turn's text; `{question}` and `{column}`
      stand for the problem's.
    instruction: replaces the text between attempts.

  Raises:
    ValueError: no such task.
  """
  if name not in TASKS:
    raise ValueError(f'no task {name!r}; there are {", ".join(sorted(TASKS))}')
  return TASKS[name](
    data_dir=data_dir,
    chat=chat,
    first_prompt=first_prompt,
    instruction=instruction,
  )


def _make_task(
  name: str,
  train: Sequence[types.Problem],
  test: Sequence[types.Problem],
  texts: prompts.Prompts,
  make_grader: Callable[[], types.Grader],
  *,
  first_prompt: str | None,
  instruction: str | None,
) -> types.Task:
  texts = prompts.Prompts(
    first_prompt or texts.first, instruction or texts.instruction
  )
  return types.Task(
    name=name,
    train=train,
    test=test,
    prompt=texts.ask,
    instruction=texts.instruction,
    make_grader=make_grader,
  )


def _gsm8k(*, data_dir, chat, **texts) -> types.Task:
  problems = gsm8k.load_problems(data_dir)
  return _make_task(
    'gsm8k',
    problems['train'],
    problems['test'],
    prompts.math_prompts(chat=chat),
    gsm8k.NumberGrader,
    **texts,
  )


TASKS: dict[str, Callable[..., types.Task]] = {
  'gsm8k': _gsm8k,
}
