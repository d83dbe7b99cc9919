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
