"""JSON lines survive a crash in the middle of a line."""

import json

from score_jax.io import json_files


def test_lines_that_cannot_be_read_are_left_out(tmp_path, caplog):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1}\n{"step": {"step"\n[2]\n{"step": 3}\n{"st')
  assert [r['step'] for r in json_files.read_lines(path)] == [1, 3]
  for number in (2, 3, 5):
    assert f'line {number} is torn' in caplog.text
  assert not list(json_files.read_lines(tmp_path / 'absent.jsonl'))


def test_json_that_cannot_be_read(tmp_path):
  path = tmp_path / 'config.json'
  assert json_files.read_json(path) is None
  for content in (b'', b'{"a": ', b'\xff'):
    path.write_bytes(content)
    assert json_files.read_json(path) is None


def test_write_json_leaves_no_temporary_file(tmp_path):
  path = tmp_path / 'config.json'
  json_files.write_json(path, {'a': 1})
  json_files.write_json(path, {'a': 2})
  assert json.loads(path.read_text()) == {'a': 2}
  assert [p.name for p in tmp_path.iterdir()] == ['config.json']
