"""JSON lines survive a crash in the middle of a line."""

import json

import pytest

from score_jax.io import json_files


def write(path, *lines):
  path.write_text('\n'.join(lines))


def test_lines_there_and_back(tmp_path):
  path = tmp_path / 'a' / 'metrics.jsonl'
  writer = json_files.LineWriter(path)
  writer.write({'step': 1, 'text': 'zwölf'})
  # On the disk's side before it is closed.
  assert list(json_files.read_lines(path)) == [{'step': 1, 'text': 'zwölf'}]
  writer.close()
  writer.close()
  again = json_files.LineWriter(path)
  again.write({'step': 2})
  again.close()
  assert [r['step'] for r in json_files.read_lines(path)] == [1, 2]


def test_no_nan_in_json(tmp_path):
  writer = json_files.LineWriter(tmp_path / 'x.jsonl')
  with pytest.raises(ValueError, match='not JSON compliant'):
    writer.write({'x': float('nan')})
  writer.close()


def test_truncate(tmp_path, caplog):
  path = tmp_path / 'metrics.jsonl'
  # Step 2 has two records; a crash tore the last line, another one a line
  # that writing then went on behind.
  write(
    path,
    '{"step": 1, "x": 0.1}',
    '{"step": 2, "x": 0.2}',
    '{"step": 2, "y": 0.3}',
    '{"step": 3, {"step": 3}',
    '{"step": 3, "x": 0.4}',
    '{"step": 4, "x"',
  )
  json_files.truncate_lines(path, 2)
  assert [json.loads(line) for line in path.read_text().splitlines()] == [
    {'step': 1, 'x': 0.1},
    {'step': 2, 'x': 0.2},
    {'step': 2, 'y': 0.3},
  ]
  assert 'line 4 is torn' in caplog.text
  json_files.truncate_lines(tmp_path / 'absent.jsonl', 2)
  assert not (tmp_path / 'absent.jsonl').exists()


def test_write_json_leaves_no_temporary_file(tmp_path):
  path = tmp_path / 'config.json'
  json_files.write_json(path, {'a': 1})
  json_files.write_json(path, {'a': 2})
  assert json.loads(path.read_text()) == {'a': 2}
  assert [p.name for p in tmp_path.iterdir()] == ['config.json']
