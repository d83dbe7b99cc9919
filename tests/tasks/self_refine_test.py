"""What Self-Refine says, task by task."""

import pytest

from score_jax.tasks import prompts, registry, self_refine

MATH_END = (
  'write it in the form "Final Answer: The final answer is $answer$. I hope it '
  'is correct."'
)


@pytest.mark.parametrize('task', registry.TASKS)
@pytest.mark.parametrize('chat', [True, False])
def test_every_task_has_an_instruction_of_its_own(task, chat):
  text = self_refine.instruction(task, chat=chat)
  assert text.strip()
  assert text not in (prompts.MATH_INSTRUCTION, prompts.CODE_INSTRUCTION)


@pytest.mark.parametrize(
  ('task', 'grader', 'end'),
  [
    ('math', 'math', MATH_END),
    ('gsm8k', 'math', MATH_END),
    ('records', 'number', MATH_END),
    ('records', 'code', 'the final Python program!'),
    ('mbpp', 'math', 'the final Python program!'),
    ('repair', 'math', 'the final Python program!'),
    ('humaneval', 'math', 'the final Python program!'),
    ('arithmetic', 'math', 'Look again'),
  ],
)
def test_it_ends_as_the_graders_need_it(task, grader, end):
  assert self_refine.instruction(task, grader).endswith(end)


@pytest.mark.parametrize(
  ('task', 'opening'),
  [('math', '\n\nSolution:\n'), ('mbpp', '\n[BEGIN]\n'), ('humaneval', '!\n')],
)
def test_a_plain_text_model_continues_a_document(task, opening):
  # As after the paper's own instructions.
  text = self_refine.instruction(task, chat=False)
  assert text.startswith('\n\n')
  assert text.endswith(opening)
