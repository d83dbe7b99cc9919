"""Grading files from the command line."""

import json
import subprocess
import sys
import time

import pytest

from experiments import grade
from tests.support import shared_data

FINAL = 'The final answer is $%s$. I hope it is correct.'


def run(tmp_path, rows, task, **settings):
  source, target = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
  source.write_text('\n'.join(json.dumps(row) for row in rows))
  code = grade.main(
    grade.Settings(
      task=task, input=str(source), output=str(target), workers=1, **settings
    )
  )
  if code:
    assert not target.exists()
    return code
  return [json.loads(line) for line in target.read_text().splitlines()]


def test_math_rows(tmp_path, capsys):
  out = run(
    tmp_path,
    [
      {'id': 'a', 'gold': '$x+1$', 'pred': 'The answer is $1+x$.'},
      {'id': 'b', 'gold': '5', 'response': 'Well. ' + FINAL % '5.0'},
      {'id': 'c', 'gold': '5', 'response': 'I say 5'},
      {'id': 'd', 'gold': '5', 'pred': '6'},
      {'gold': '5', 'pred': '9^{9^{9}}'},
    ],
    'math',
  )
  assert [row['id'] for row in out] == ['a', 'b', 'c', 'd', 5]
  assert [row['verdict'] for row in out] == [
    'correct',
    'correct',
    'unparseable',
    'wrong',
    'unparseable',
  ]
  assert all(row['seconds'] >= 0 for row in out)
  assert '5 rows' in capsys.readouterr().out


def test_gsm8k_rows(tmp_path):
  out = run(
    tmp_path,
    [
      {'id': 1, 'gold': '48+24=72\n#### 72', 'pred': '72'},
      {'id': 2, 'gold': '1,000', 'response': FINAL % '1000'},
      {'id': 3, 'gold': '72', 'response': 'about 72'},
    ],
    'gsm8k',
  )
  labels = [row['verdict'] for row in out]
  assert labels == ['correct', 'correct', 'unparseable']


def test_code_rows(tmp_path):
  tests = ['assert f(2) == 4']
  out = run(
    tmp_path,
    [
      {'id': 1, 'tests': tests, 'response': '```\ndef f(x): return x + x\n```'},
      {'id': 2, 'tests': tests, 'solution': 'def f(x): return x'},
      {
        'task_id': 'own/3',
        'prompt': 'def g(x):\n  """Doubles."""\n',
        'entry_point': 'g',
        'test': 'def check(candidate):\n  assert candidate(1) == 2\n',
        'response': '  return x * 2\n',
      },
      {'id': 4, 'tests': tests, 'entry_point': 'f', 'response': 'no'},
    ],
    'code',
  )
  assert [row['id'] for row in out] == [1, 2, 'own/3', 4]
  labels = [row['verdict'] for row in out]
  assert labels == ['correct', 'wrong', 'correct', 'unparseable']


def test_code_rows_that_name_a_problem(tmp_path):
  data_dir = str(shared_data.path('mbpp').parent)
  out = run(
    tmp_path,
    [
      {'task_id': 3, 'solution': 'def is_not_prime(n):\n  return n != 2\n'},
      {'task_id': 'HumanEval/23', 'solution': 'strlen = len'},
    ],
    'code',
    data_dir=data_dir,
  )
  assert [row['verdict'] for row in out] == ['correct', 'correct']


@pytest.mark.parametrize(
  ('task', 'rows', 'message'),
  [
    ('math', [{'gold': '1'}], 'row 1'),
    ('math', [{'gold': '1'}, {'pred': '1'}], 'row 2'),
    ('gsm8k', [{'gold': '1', 'response': None}], "'response'"),
    ('code', [{'response': 'x', 'tests': ['assert 1']}], 'function'),
    ('code', [{'response': 'x', 'tests': ['assert (']}], 'no Python'),
    ('code', [{'response': 'x', 'tests': 5}], 'list of texts'),
    ('code', [{'tests': ['assert f(1)']}], "'response'"),
  ],
)
def test_nothing_is_graded_where_every_row_lacks_something(
  tmp_path, capsys, task, rows, message
):
  assert run(tmp_path, rows, task) == 2
  assert message in capsys.readouterr().err


MALFORMED = b"""{"id": "a", "gold": "5", "pred": "5"}
{"id": "b", "gold":

{"id": "c", "pred": "5"}
["no object"]
\xff{"gold": "5"}
{"id": "d", "gold": "5", "pred": null}
"""


@pytest.mark.parametrize('suffix', ['.jsonl', '.json', '.txt', ''])
def test_a_malformed_row_is_named_and_the_others_are_graded(
  tmp_path, capsys, suffix
):
  source, target = tmp_path / f'in{suffix}', tmp_path / 'out'
  source.write_bytes(MALFORMED)
  settings = grade.Settings(task='gsm8k', input=str(source), output=str(target))
  assert grade.main(settings) == 1
  out = [json.loads(line) for line in target.read_text().splitlines()]
  assert [(row['id'], row['verdict'], row['score']) for row in out] == [
    ('a', 'correct', 1.0),
    (2, 'malformed', None),
    ('c', 'malformed', None),
    (4, 'malformed', None),
    (5, 'malformed', None),
    ('d', 'unparseable', 0.0),
  ]
  assert 'line 2, column' in out[1]['reason']
  assert "no 'gold'" in out[2]['reason']
  told = capsys.readouterr()
  assert '6 rows' in told.out
  assert '1 correct, 4 malformed, 1 unparseable' in told.out
  assert '4 of 6 rows' in told.err
  for row in ('row 2: ', 'row 3: ', 'row 4: ', 'row 5: '):
    assert row in told.err


def test_of_many_malformed_rows_the_first_are_named(tmp_path, capsys):
  rows = [{'gold': '1', 'pred': '1'}] + [{'gold': '1'}] * 50
  source = tmp_path / 'in'
  source.write_text('\n'.join(map(json.dumps, rows)))
  settings = grade.Settings(
    task='gsm8k', input=str(source), output=str(tmp_path / 'out')
  )
  assert grade.main(settings) == 1
  told = capsys.readouterr().err
  assert '50 of 51 rows' in told
  assert 'row 21: ' in told
  assert 'row 22: ' not in told
  assert 'and 30 more' in told


@pytest.mark.parametrize(
  ('rows', 'ids'),
  [
    ([{'id': 'a'}, {'id': 'b'}, {}], ['a', 'b', 3]),
    ([{'id': 'a'}, {'id': 'a'}, {'id': 'a'}], ['a', 'a#2', 'a#3']),
    ([{'task_id': 'T/1'}, {'task_id': 'T/1'}], ['T/1', 'T/1#2']),
    # A row that states an id keeps it, wherever it stands.
    ([{'id': 'a'}, {'id': 'a'}, {'id': 'a#2'}], ['a', 'a#3', 'a#2']),
    ([{}, {'id': 1}, {'id': '1'}], ['1#2', 1, '1#3']),
    ([{'id': None, 'task_id': 7}, ValueError('torn')], [7, 2]),
    ([{'id': ['x']}, {'id': ['x']}], ["['x']", "['x']#2"]),
  ],
)
def test_ids_are_unique(rows, ids):
  assert grade.unique_ids(rows) == ids


def test_many_rows_of_one_id_take_no_time():
  rows = [{'id': 'a'}] * 50_000
  start = time.process_time()
  assert len(set(grade.unique_ids(rows))) == len(rows)
  assert time.process_time() - start < 2


def test_no_sandbox_takes_two_flags(tmp_path, capsys):
  assert run(tmp_path, [], 'code', sandbox='none') == 2
  assert 'unsandboxed' in capsys.readouterr().err


def test_command_line(tmp_path):
  source = tmp_path / 'in.jsonl'
  source.write_text('{"id": "x", "gold": "1/2", "pred": "0.5"}\n')
  subprocess.run(
    [
      sys.executable,
      '-m',
      'experiments.grade',
      '--task=math',
      f'--input={source}',
      f'--output={tmp_path / "deep" / "out.jsonl"}',
      '--workers=1',
    ],
    check=True,
    capture_output=True,
  )
  [line] = (tmp_path / 'deep' / 'out.jsonl').read_text().splitlines()
  assert json.loads(line)['verdict'] == 'correct'
