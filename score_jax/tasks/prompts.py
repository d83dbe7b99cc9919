"""What the policy is asked, in both turns: the paper's words.

arXiv:2409.12917, Appendix C. A chat model gets the text as user messages; a
plain-text model gets it as a document that the attempt continues.
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
CODE_INSTRUCTION = (
  '# There might be an error in the code above because of lack of '
  'understanding of the question. Please correct the error, if any, and '
  'rewrite the solution. Only output the final correct Python program!'
)


@dataclasses.dataclass(frozen=True)
class Prompts:
  """The text of both turns.

  Attributes:
    first: the first turn; `{question}` stands for the problem's question and
      `{name}` for its column of that name. Other braces are left alone.
    instruction: the given text between two attempts.
  """

  first: str
  instruction: str

  def ask(self, problem: types.Problem) -> str:
    """The first turn's text for one problem."""
    # Not str.format: templates are full of LaTeX and Python braces.
    fields = {**problem.columns, 'question': problem.question}
    return re.sub(
      r'\{(\w+)\}',
      lambda match: str(fields.get(match[1], match[0])),
      self.first,
    )


def math_prompts(*, chat: bool) -> Prompts:
  """Zero-shot prompts of MATH and GSM8K, for chat or plain-text models."""
  first = MATH_FIRST + '\n\nProblem:\n{question}'
  if chat:
    return Prompts(first, MATH_INSTRUCTION)
  return Prompts(
    first + '\n\nSolution:\n', f'\n\n{MATH_INSTRUCTION}\n\nSolution:\n'
  )


_MBPP_TASK = (
  'You are an expert Python programmer, and here is your task: {question} Your '
  'code should pass these tests:\n\n{shown_tests}\n[BEGIN]\n'
)
_HUMANEVAL_TASK = (
  'You are an expert Python programmer. Complete this function and give the '
  'whole program:\n\n```python\n{question}```'
)


def mbpp_prompts(shots: Sequence[types.Problem], *, chat: bool) -> Prompts:
  """Few-shot prompts of MBPP, for chat or plain-text models.

  Args:
    shots: solved problems to show, in order; the paper shows tasks 2 to 4.
    chat: a plain-text model continues after the instruction's [BEGIN].
  """
  task = Prompts(_MBPP_TASK, '')
  shown = ''.join(
    f'{task.ask(shot)}{shot.reference.rstrip()}\n[DONE]\n\n' for shot in shots
  )
  instruction = (
    CODE_INSTRUCTION if chat else f'\n\n{CODE_INSTRUCTION}\n[BEGIN]\n'
  )
  return Prompts(shown + _MBPP_TASK, instruction)


def humaneval_prompts(*, chat: bool) -> Prompts:
  """Zero-shot prompts of HumanEval; a plain-text model continues the code."""
  if chat:
    return Prompts(_HUMANEVAL_TASK, CODE_INSTRUCTION)
  return Prompts('{question}', f'\n\n{CODE_INSTRUCTION}\n')
