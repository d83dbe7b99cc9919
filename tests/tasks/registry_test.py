"""Tasks by name, from original files: MATH, MBPP, HumanEval, repair."""

import json

import pytest

from score_jax import types
from score_jax.grading import final_answer
from score_jax.tasks import (
  answer_keys,
  code_problems,
  generated_problems,
  math_problems,
  prompt_templates,
  records,
  registry,
)
from tests.support import shared_data

SHOTS_START = """\
You are an expert Python programmer, and here is your task: Write a function \
to find the similar elements from the given two tuple lists. Your code should \
pass these tests:

assert similar_elements((3, 4, 5, 6),(5, 7, 4, 10)) == (4, 5)
assert similar_elements((1, 2, 3, 4),(5, 4, 3, 7)) == (3, 4)
assert similar_elements((11, 12, 14, 13),(17, 15, 14, 13)) == (13, 14)
[BEGIN]
def similar_elements(test_tup1, test_tup2):
  res = tuple(set(test_tup1) & set(test_tup2))
  return (res)
[DONE]

You are an expert Python programmer, and here is your task: Write a python \
function to identify non-prime numbers. Your code should pass these tests:
"""


@pytest.fixture(scope='module')
def data_dir():
  return str(shared_data.path('math').parent)


@pytest.fixture(scope='module')
def math(data_dir):
  return math_problems.load_problems(data_dir)


def test_math_has_the_split_of_lightman_et_al(data_dir, caplog):
  problems = math_problems.load_problems(data_dir)
  # Two of the 12,000 have an empty box for an answer.
  assert (len(problems['train']), len(problems['test'])) == (11_998, 500)
  for name in ('train/number_theory/7115', 'train/number_theory/7117'):
    assert name in caplog.text
  ids = [p.id for split in problems.values() for p in split]
  assert len(set(ids)) == len(ids)
  levels = {p.columns['level'] for p in problems['train']}
  assert levels == {1, 2, 3, 4, 5, None}


def test_the_last_of_several_boxes_is_the_answer(math):
  several = [
    p for p in math['test'] if p.columns['solution'].count('\\boxed') > 1
  ]
  assert len(several) == 8
  for problem in several:
    boxed = final_answer.last_box(problem.columns['solution'])
    assert boxed == problem.reference


def test_near_duplicates_of_test_problems_are_found(data_dir, math):
  listed = json.loads(
    shared_data.path('math/math500_near_duplicates_in_12000.json').read_text()
  )
  kept = math_problems.load_problems(data_dir, drop_near_duplicates=True)
  left_out = {p.id for p in math['train']} - {p.id for p in kept['train']}
  assert left_out >= {
    pair['train12000_id'].removesuffix('.json') for pair in listed
  }
  assert len(left_out) < 60


def test_near_duplicates_by_hand():
  def problem(name, question):
    return types.Problem(name, 'math', question, '1')

  # Shingles of five words: 4 of the first; the second has 3 of them and 1 of
  # its own: 3 / 5 in common. The third shares one, 1 / 7.
  question = 'a b c d e f g h'
  others = [problem('o', question)]
  problems = [
    problem('near', 'a b c d e f g z'),
    problem('far', 'a b c d e y x w'),
  ]
  assert math_problems.near_duplicates(problems, others) == {'near': 'o'}


def test_mbpp_splits_and_traps(data_dir):
  splits = code_problems.load_mbpp(data_dir)
  assert {k: len(v) for k, v in splits.items()} == {
    'prompt': 10,
    'test': 500,
    'validation': 90,
    'train': 374,
  }
  problems = {p.id: p for split in splits.values() for p in split}
  for problem in problems.values():
    assert '\r' not in problem.reference + problem.question
    assert '\r' not in ''.join(problem.columns['tests'])
  with_setup = {p.id for p in problems.values() if p.columns['setup']}
  assert with_setup == {'MBPP/367', 'MBPP/927'}
  assert problems['MBPP/126'].columns['entry_point'] == 'sum'
  sanitized = code_problems.load_mbpp(data_dir, sanitized=True)
  assert [len(s) for s in sanitized.values()] == [7, 257, 43, 120]


def test_validation_problems_are_the_tasks_own_or_of_its_training(
  data_dir, tmp_path
):
  mbpp = registry.load_task('mbpp', data_dir=data_dir, num_validation=50)
  assert len(mbpp.train) == 374
  own = code_problems.load_mbpp(data_dir)['validation']
  assert list(mbpp.validation) == own[:50]

  rows = [{'id': i, 'question': f'{i}?', 'reference': '1'} for i in range(40)]

  def load(rows, count):
    path = tmp_path / 'train.jsonl'
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return registry.load_task(
      'records', file=str(path), grader='number', num_validation=count
    )

  whole, some, most = (load(rows, count) for count in (0, 3, 100))
  assert (len(whole.train), len(whole.validation)) == (40, 0)
  assert (len(some.train), len(some.validation)) == (37, 3)
  assert (len(most.train), len(most.validation)) == (36, 4)
  held_out = {problem.id for problem in some.validation}
  assert [p for p in whole.train if p.id not in held_out] == list(some.train)
  # The same ones whatever the order of the file.
  assert load(rows[::-1], 3).validation == some.validation


def test_mbpp_prompt_is_the_papers(data_dir):
  task = registry.load_task('mbpp', data_dir=data_dir)
  text = task.prompt(task.test[0])
  assert text.startswith(SHOTS_START)
  assert text.count('[BEGIN]') == 4
  assert text.count('[DONE]') == 3
  shown = '\n'.join(task.test[0].columns['tests'])
  assert text.endswith(f'tests:\n\n{shown}\n[BEGIN]\n')
  assert task.test[0].question in text
  assert task.instruction == prompt_templates.CODE_INSTRUCTION


def test_stop_texts_are_those_that_the_prompt_shows(data_dir):
  def load(name='mbpp', **choices):
    return registry.load_task(name, data_dir=data_dir, **choices).stop_texts

  assert load(chat=False) == ('[DONE]',)
  assert load(chat=True) == ()
  assert load('humaneval', chat=False) == ()
  # A user's come on top, and stay where the prompt is replaced.
  own = {'chat': False, 'stop_texts': ('Q:',)}
  assert load(**own) == ('[DONE]', 'Q:')
  assert load(**own, first_prompt='{question}') == ('Q:',)


def test_humaneval_shows_no_tests(data_dir):
  for chat in (True, False):
    task = registry.load_task('humaneval', data_dir=data_dir, chat=chat)
    assert (len(task.train), len(task.test)) == (0, 164)
    for problem in task.test:
      text = task.prompt(problem)
      assert problem.columns['prompt_code'] in text
      assert 'def check(candidate)' not in text


def test_repair_gives_the_first_attempt(data_dir):
  path = str(shared_data.path('code_attempts/seed_mbpp_codellama.jsonl'))
  task = registry.load_task('repair', data_dir=data_dir, file=path)
  rows = records.read_rows(path)
  wrong = [row for row in rows if not row['is_solved']]
  # The file covers MBPP's test split only.
  assert (len(task.train), len(task.test)) == (0, len(wrong))
  assert len({problem.id for problem in task.test}) == len(wrong)
  assert task.test[0].columns['given_attempt'] == wrong[0]['solution']
  assert '[BEGIN]' in task.prompt(task.test[0])


def test_repair_names_rows_it_cannot_use(tmp_path, data_dir):
  rows = tmp_path / 'rows.jsonl'
  rows.write_text('{"task_id": "MBPP/11"}\n')
  with pytest.raises(ValueError, match='row 1.*given_attempt'):
    registry.load_task('repair', data_dir=data_dir, file=str(rows))


def test_a_users_prompts(tmp_path):
  rows = tmp_path / 'rows.jsonl'
  rows.write_text('{"question": "{x}?", "reference": "1", "topic": "sets"}\n')
  task = registry.load_task(
    'records',
    file=str(rows),
    grader='number',
    first_prompt='On {topic}: {question} Use \\frac{1}{2}.',
    instruction='Again!',
  )
  assert task.prompt(task.train[0]) == 'On sets: {x}? Use \\frac{1}{2}.'
  assert task.instruction == 'Again!'


def test_shots_show_solved_training_problems(tmp_path):
  def write(name, numbers):
    rows = [
      {
        'question': f'What is {n} + {n}?',
        'answer': f'{n}+{n}=<<{n}+{n}={2 * n}>>{2 * n}\n#### {2 * n}',
      }
      for n in numbers
    ]
    lines = ''.join(json.dumps(row) + '\n' for row in rows)
    (tmp_path / f'{name}.jsonl').write_text(lines)

  write('train', range(1, 9))
  write('test', range(20, 23))
  plain = registry.load_task(
    'gsm8k', data_dir=str(tmp_path), chat=False, shots=2, num_validation=1
  )
  none = registry.load_task('gsm8k', data_dir=str(tmp_path), chat=False)
  shots = none.train[:2]
  # Shown, and so neither trained nor validated on.
  held = [p.id for p in (*plain.train, *plain.validation)]
  assert len(held) == 6
  assert not {shot.id for shot in shots} & set(held)
  problem = plain.test[0]
  # The plain style ends the message's line.
  document = plain.prompt(problem) + '\n'
  head, *parts = document.split('Problem:\n')
  assert 'math expert' in head
  for part, shot in zip(parts[:2], shots):
    number = shot.reference
    half = int(number) // 2
    assert part == (
      f'{shot.question}\n\nSolution:\n{half}+{half}={number}\nFinal Answer: '
      f'The final answer is ${number}$. I hope it is correct.\n\n'
    )
    # What is shown is graded as correct, without its stop text, too.
    solution = part.partition('Solution:\n')[2]
    text = solution.partition(plain.stop_texts[0])[0]
    [verdict] = plain.make_grader().grade([shot], [types.Attempt(text)])
    assert verdict.label == 'correct'
  assert parts[2] == f'{problem.question}\n\nSolution:\n'
  assert plain.instruction.endswith('\n\nSolution:')
  assert plain.stop_texts == ('I hope it is correct.', '\n\nProblem:')
  # Without shots nothing is shown, and a chat model stops by itself.
  assert none.stop_texts == ()
  assert none.prompt(problem).count('Problem:') == 1
  chat = registry.load_task('gsm8k', data_dir=str(tmp_path), shots=2)
  assert chat.stop_texts == ()
  assert chat.prompt(problem).count('I hope it is correct.') == 3
  with pytest.raises(ValueError, match='shots'):
    registry.load_task('arithmetic', shots=1)


def test_a_new_task_is_one_entry(monkeypatch):
  def load(chosen):
    problems = [types.Problem('1', 'echo', 'Say 5.', '5')]
    return types.Task(
      name='echo',
      train=problems,
      test=problems,
      prompt=lambda problem: f'{problem.question} {chosen.seed}',
      instruction='Again!',
      make_grader=generated_problems.make_grader,
    )

  entry = registry.Entry(load, answer_keys.number)
  monkeypatch.setitem(registry.TASKS, 'echo', entry)
  task = registry.load_task('echo', seed=3, rewards=('task@2',))
  assert task.prompt(task.test[0]) == 'Say 5. 3'
  [verdict] = task.make_grader().grade(task.test, [types.Attempt('5')])
  assert (verdict.score, verdict.reward.score) == (1, 2)
  key = registry.answer_key('echo')
  assert key(task.test[0], types.Attempt('#### 5.0')) == 5


def test_records_that_no_grader_reads_need_a_rule(tmp_path):
  rows = tmp_path / 'rows.jsonl'
  rows.write_text('{"question": "Why?", "reference": "Because \\\\frac"}\n')
  reward = tmp_path / 'mine.py'
  reward.write_text('def half(attempt):\n  return 0.5\n')
  options = {'file': str(rows), 'rewards': (f'{reward}:half',), 'workers': 1}
  with pytest.raises(ValueError, match='no reference .* correct_from'):
    registry.load_task('records', **options)
  task = registry.load_task('records', correct_from=0.5, **options)
  # No worker is started that nothing asks.
  grader = task.make_grader()
  [verdict] = grader.grade(task.train, [types.Attempt('Because.')])
  grader.close()
  assert (verdict.label, verdict.score) == ('correct', 1.0)
  with pytest.raises(ValueError, match='correct_from'):
    registry.load_task('records', file=str(rows), correct_from=0.5)


@pytest.mark.parametrize('name', ['repair', 'records'])
def test_a_missing_file_is_said(name):
  with pytest.raises(ValueError, match='file'):
    registry.load_task(name)


def test_unknown_task_lists_the_known_ones():
  with pytest.raises(ValueError, match='gsm8k.*math.*mbpp'):
    registry.load_task('gsm9k')


MATH_END = (
  'write it in the form "Final Answer: The final answer is $answer$. I hope it '
  'is correct."'
)
CODE_END = 'the final Python program!'


# A plain-text model continues a document, as after the paper's instructions.
@pytest.mark.parametrize(
  ('name', 'grader', 'end', 'plain_end'),
  [
    ('records', 'number', MATH_END, '\n\nSolution:\n'),
    ('records', 'code', CODE_END, '\n'),
    ('mbpp', 'math', CODE_END, '\n[BEGIN]\n'),
    ('humaneval', 'math', CODE_END, '\n'),
  ],
)
def test_self_refine_asks_for_feedback_and_for_what_the_grader_reads(
  tmp_path, data_dir, name, grader, end, plain_end
):
  rows = tmp_path / 'rows.jsonl'
  rows.write_text('{"question": "1+1?", "reference": "2"}\n')
  chat, plain = (
    registry.load_task(
      name, data_dir=data_dir, file=str(rows), grader=grader, chat=chat
    )
    for chat in (True, False)
  )
  text = chat.refine_instruction
  assert text.startswith(('Review your', '# Review your'))
  assert text.endswith(end)
  assert plain.refine_instruction == f'\n\n{text}{plain_end}'
  assert plain.instruction == f'\n\n{chat.instruction}{plain_end}'


def test_self_refine_of_a_policy_from_scratch_has_the_one_known_sentence():
  task = registry.load_task('arithmetic', options={'digits': 3, 'num_test': 9})
  assert task.refine_instruction == 'Look again\nLook again'
