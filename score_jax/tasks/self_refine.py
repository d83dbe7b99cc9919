"""What the Self-Refine baseline says between the attempts.

Madaan et al., 2023 (arXiv:2303.17651) let a model write feedback on its own
output and then a better output. The paper compares with it and does not
publish its prompts; these ask for both in the one message that an episode has
between its attempts, and end as the paper's own instructions do, so that the
same graders read the answers.
"""

from score_jax.tasks import arithmetic

_MATH = (
  'Review your solution above step by step. Say for every step whether it '
  'follows and whether its calculation is right, and name each mistake that '
  'you find. Then use this feedback to write an improved solution; if there is '
  'no mistake, write the same one again. At the end of the improved solution, '
  'when you give your final answer, write it in the form "Final Answer: The '
  'final answer is $answer$. I hope it is correct."'
)
_CODE = (
  '# Review your program above line by line: think of the inputs that the task '
  'allows, and name each case in which it would not do what is asked, as '
  'comments. Then use this feedback to write an improved program; if nothing '
  'is wrong, write the same one again. Only output the comments and the final '
  'Python program!'
)
# A policy from scratch has read one sentence in its life; any other is made of
# letters that it never saw and spoils its second attempt. So it reads it twice.
_ARITHMETIC = f'{arithmetic.INSTRUCTION}\n{arithmetic.INSTRUCTION}'

_INSTRUCTIONS = {
  arithmetic.NAME: _ARITHMETIC,
  'mbpp': _CODE,
  'humaneval': _CODE,
  'repair': _CODE,
}


def instruction(task: str, grader: str = 'math', *, chat: bool = True) -> str:
  """The text between the attempts at a task.

  Args:
    task: its name, as in `--task`.
    grader: of `--task=records`: 'code' is asked for programs.
    chat: False for a plain-text model, which continues a document.
  """
  if task == 'records' and grader == 'code':
    task = 'humaneval'
  text = _INSTRUCTIONS.get(task, _MATH)
  if chat or task == arithmetic.NAME:
    return text
  opening = {'mbpp': '\n[BEGIN]\n', 'repair': '\n[BEGIN]\n', 'humaneval': '\n'}
  return f'\n\n{text}' + opening.get(task, '\n\nSolution:\n')
