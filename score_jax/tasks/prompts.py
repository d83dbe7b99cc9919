"""What the policy is asked, in both turns: the paper's words.

arXiv:2409.12917, Appendix C. A chat model gets the text as user messages; a
plain-text model gets it as a document that the attempt continues.
"""

import dataclasses

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
    # Not str.format: questions and templates are full of LaTeX braces.
    text = self.first
    for name, value in problem.columns.items():
      field = '{' + name + '}'
      if field in self.first and name != 'question':
        text = text.replace(field, str(value))
    return text.replace('{question}', problem.question)


def math_prompts(*, chat: bool) -> Prompts:
  """Zero-shot prompts of MATH and GSM8K, for chat or plain-text models."""
  first = MATH_FIRST + '\n\nProblem:\n{question}'
  if chat:
    return Prompts(first, MATH_INSTRUCTION)
  return Prompts(
    first + '\n\nSolution:\n', f'\n\n{MATH_INSTRUCTION}\n\nSolution:\n'
  )
