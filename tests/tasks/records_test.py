"""Rows from files, and a user's own problems."""

import gzip
import json

import pyarrow
from pyarrow import parquet
import pytest

from score_jax.tasks import records

ROWS = [
  {'question': 'a\u2028b', 'reference': '1', 'id': 'x'},
  {'question': 'c', 'reference': '2', 'id': 'y'},
]


def write(path, rows):
  lines = '\n'.join(json.dumps(row, ensure_ascii=False) for row in rows)
  if path.suffix == '.gz':
    path.write_bytes(gzip.compress(lines.encode()))
  elif path.suffix == '.json':
    path.write_text(json.dumps(rows))
  elif path.suffix == '.parquet':
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
  else:
    path.write_text(lines + '\n\n')


@pytest.mark.parametrize(
  'name', ['a.jsonl', 'a.jsonl.gz', 'a.json', 'a.parquet']
)
def test_rows_come_out_as_they_went_in(tmp_path, name):
  write(tmp_path / name, ROWS)
  assert records.read_rows(tmp_path / name) == ROWS


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{"a": 1}\n{"a": \n', 'line 2'),
    ('{"a": 1}\n[1]\n', 'line 2'),
  ],
)
def test_malformed_rows_are_named(tmp_path, text, message):
  (tmp_path / 'a.jsonl').write_text(text)
  with pytest.raises(ValueError, match=message):
    records.read_rows(tmp_path / 'a.jsonl')


@pytest.mark.parametrize('name', ['a.jsonl', 'a.json', 'a.txt', 'a'])
def test_json_lines_and_lists_are_known_by_what_they_hold(tmp_path, name):
  path = tmp_path / name
  lines = '\r\n'.join(json.dumps(row) for row in ROWS)
  for text in (lines, json.dumps(ROWS, indent=1), '\ufeff' + lines):
    path.write_text(text, newline='')
    assert records.read_rows(path) == ROWS
  path.write_bytes(gzip.compress(lines.encode()))
  assert records.read_rows(path) == ROWS


@pytest.mark.parametrize(
  'line', [b'{"a": ', b'[1]', b'"a"', b'\xff', b'[' * 100_000, b'1' * 5000]
)
def test_rows_around_a_malformed_one_are_read(tmp_path, line):
  path = tmp_path / 'a.txt'
  path.write_bytes(b'{"a": 1}\n\n' + line + b'\n{"a": 2}')
  first, error, last = records.rows_or_errors(path)
  assert (first, last) == ({'a': 1}, {'a': 2})
  assert 'line 3' in str(error)
  with pytest.raises(ValueError, match='line 3'):
    records.read_rows(path)


def test_items_of_a_list_that_are_no_rows_are_named(tmp_path):
  path = tmp_path / 'a.json'
  path.write_text('[{"a": 1}, 2]')
  assert records.rows_or_errors(path)[0] == {'a': 1}
  assert 'item 2' in str(records.rows_or_errors(path)[1])


def test_problems_with_columns_of_other_names(tmp_path):
  write(tmp_path / 'a.jsonl', [{'problem': 'q', 'answer': 7, 'level': 'hard'}])
  [problem] = records.load_problems(
    tmp_path / 'a.jsonl',
    task='records',
    columns={'question': 'problem', 'reference': 'answer'},
  )
  assert (problem.id, problem.question, problem.reference) == ('1', 'q', '7')
  assert problem.columns['level'] == 'hard'


def test_a_missing_column_is_named_with_the_existing_ones(tmp_path):
  write(tmp_path / 'a.jsonl', [{'problem': 'q', 'reference': '1'}])
  with pytest.raises(ValueError, match="'question'.*problem, reference"):
    records.load_problems(tmp_path / 'a.jsonl', task='records')


def test_ids_are_unique(tmp_path):
  write(tmp_path / 'a.jsonl', [ROWS[0], ROWS[0]])
  with pytest.raises(ValueError, match="id 'x'"):
    records.load_problems(tmp_path / 'a.jsonl', task='records')
