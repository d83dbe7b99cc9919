"""Texts of both turns, in the paper's words.

arXiv:2409.12917, Appendix C. A chat model gets the text as user messages; a
plain-text model gets it as a document that the attempt continues.

Self-Refine (Madaan et al., 2023, arXiv:2303.17651) lets a model write feedback
on its own output and then a better output. The paper compares with it and does
not publish its prompts; the `REFINE` texts ask for both in the one message that
an episode has between its attempts, and end as the paper's own instructions do,
so that the same graders read the answers.
"""

from collections.abc import Sequence
import dataclasses
import re

from score_jax import types

MATH_FIRST = (
  'You are a math expert. When you respond, respond only with the Solution of '
  'the final Problem, thinking step by step. At the end of the Solution, when '
  'you give your final answer, write it in the form "Final Answer: The final '
  'answer is $answer$. I hope it is correct."'
)
MATH_INSTRUCTION = (
  'There might be an error in the solution above because of lack of '
  'understanding of the question. Please correct the error, if any, and '
  'rewrite the solution. Only output the final solution! At the end of the '
  'Solution, when you give your final answer, write it in the form "Final '
  'Answer: The final answer is $answer$. I hope it is correct."'
)
MATH_REFINE = (
  'Review your solution above step by step. Say for every step whether it '
  'follows and whether its calculation is right, and name each mistake that '
  'you find. Then use this feedback to write an improved solution; if there is '
  'no mistake, write the same one again. At the end of the improved solution, '
  'when you give your final answer, write it in the form "Final Answer: The '
  'final answer is $answer$. I hope it is correct."'
)
CODE_INSTRUCTION = (
  '# There might be an error in the code above because of lack of '
  'understanding of the question. Please correct the error, if any, and '
  'rewrite the solution. Only output the final correct Python program!'
)
CODE_REFINE = (
  '# Review your program above line by line: think of the inputs that the task '
  'allows, and name each case in which it would not do what is asked, as '
  'comments. Then use this feedback to write an improved program; if nothing '
  'is wrong, write the same one again. Only output the comments and the final '
  'Python program!'
)
_MATH_END = 'I hope it is correct.'
_MBPP_FIRST = (
  'You are an expert Python programmer, and here is your task: {question} Your '
  'code should pass these tests:\n\n{shown_tests}\n[BEGIN]\n'
)
_MBPP_END = '[DONE]'
_HUMANEVAL_FIRST = (
  'You are an expert Python programmer. Complete this function and give the '
  'whole program:\n\n```python\n{question}```'
)


@dataclasses.dataclass(frozen=True)
class Templates:
  """The texts of a task.

  Attributes:
    first: the first turn; `{question}` stands for the problem's question and
      `{name}` for its column of that name. Other braces are left alone.
    instruction: the given text between two attempts.
    refine_instruction: the same in the Self-Refine baseline.
    stop_texts: texts that end an attempt of a plain-text model.
  """

  first: str
  instruction: str = ''
  refine_instruction: str = ''
  stop_texts: tuple[str, ...] = ()

  def prompt(self, problem: types.Problem) -> str:
    """The first turn's text for one problem."""
    # Not str.format: templates are full of LaTeX and Python braces.
    fields = {**problem.columns, 'question': problem.question}
    return re.sub(
      r'\{(\w+)\}',
      lambda match: str(fields.get(match[1], match[0])),
      self.first,
    )


def math_templates(
  *, chat: bool, shots: Sequence[types.Problem] = ()
) -> Templates:
  """Texts of MATH and GSM8K, for chat or plain-text models.

  Args:
    chat: False for a plain-text model, which continues after `Solution:`.
    shots: solved problems to show, in order, each with the sentence that is
      graded, as in Minerva's prompt (Lewkowycz et al., arXiv:2206.14858). That
      sentence and the next problem's heading are then stop texts.
  """
  if not shots:
    first = MATH_FIRST + '\n\nProblem:\n{question}'
    end = '' if chat else '\n\nSolution:\n'
    between = _between(MATH_INSTRUCTION, MATH_REFINE, end)
    return Templates(first + end, *between)
  # A plain-text model's message ends with its line.
  end = '\n\nSolution:'
  task = Templates('Problem:\n{question}' + end)
  shown = ''.join(
    f'{task.prompt(shot)}\n{_solution(shot)}\n\n' for shot in shots
  )
  return Templates(
    f'{MATH_FIRST}\n\n{shown}{task.first}',
    *_between(MATH_INSTRUCTION, MATH_REFINE, end),
    () if chat else (_MATH_END, '\n\nProblem:'),
  )


def _solution(shot: types.Problem) -> str:
  """The solution that a problem comes with, and its answer as it is graded."""
  # Without GSM8K's notes for a calculator, such as <<48/2=24>>.
  steps = re.sub(r'<<[^>]*>>', '', str(shot.columns.get('solution', '')))
  answer = f'Final Answer: The final answer is ${shot.reference}$. {_MATH_END}'
  return f'{steps.strip()}\n{answer}'.strip()


def mbpp_templates(shots: Sequence[types.Problem], *, chat: bool) -> Templates:
  """Few-shot texts of MBPP, for chat or plain-text models.

  Args:
    shots: solved problems to show, in order; the paper shows tasks 2 to 4.
    chat: False for a plain-text model, which continues after `[BEGIN]` and,
      as it is shown, ends with `[DONE]`: the stop text.
  """
  task = Templates(_MBPP_FIRST)
  shown = ''.join(
    f'{task.prompt(shot)}{shot.reference.rstrip()}\n{_MBPP_END}\n\n'
    for shot in shots
  )
  end = '' if chat else '\n[BEGIN]\n'
  between = _between(CODE_INSTRUCTION, CODE_REFINE, end)
  stop_texts = () if chat else (_MBPP_END,)
  return Templates(shown + _MBPP_FIRST, *between, stop_texts)


def humaneval_templates(*, chat: bool) -> Templates:
  """Zero-shot texts of HumanEval; a plain-text model continues the code."""
  end = '' if chat else '\n'
  between = _between(CODE_INSTRUCTION, CODE_REFINE, end)
  return Templates(_HUMANEVAL_FIRST if chat else '{question}', *between)


def _between(instruction: str, refine: str, end: str) -> list[str]:
  """Both instructions; in a document, whose parts have an end, set apart."""
  return [f'\n\n{t}{end}' if end else t for t in (instruction, refine)]
