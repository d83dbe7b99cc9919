"""Digests of files and lines: what is damaged is found, and named."""

import json

import pytest

from score_jax.io import json_files, written_files


def write_log(path, steps, step=-1):
  log = written_files.Log(path, step)
  for number in steps:
    log.write({'step': number, 'text': f'zwölf {number}'})
  log.note()
  log.close()


def steps_of(path):
  return [json.loads(line)['step'] for line in path.read_text().splitlines()]


def damage(path):
  return written_files.WrittenFiles(path.parent).damage()


def test_lines_there_and_back(tmp_path):
  path = tmp_path / 'a' / 'metrics.jsonl'
  log = written_files.Log(path, 0)
  log.write({'step': 1, 'text': 'zwölf'})
  # On the disk's side before it is closed.
  assert list(json_files.read_lines(path)) == [{'step': 1, 'text': 'zwölf'}]
  log.close()
  log.close()
  write_log(path, [2], step=1)
  assert steps_of(path) == [1, 2]


def test_no_nan_in_json(tmp_path):
  log = written_files.Log(tmp_path / 'x.jsonl', 0)
  with pytest.raises(ValueError, match='not JSON compliant'):
    log.write({'step': 1, 'x': float('nan')})
  log.close()


def test_a_log_is_cut_after_a_step(tmp_path, caplog):
  path = tmp_path / 'metrics.jsonl'
  write_log(path, [1, 2, 2, 3])
  with path.open('a') as file:
    # Without digests, and torn: written after the last checkpoint.
    file.write('{"step": 4}\n{"step": 4, "x"')
  content = path.read_text().splitlines(keepends=True)
  written_files.Log(path, 2).close()
  assert path.read_text() == ''.join(content[:3])
  assert not caplog.text
  assert not damage(path)
  assert [p.name for p in tmp_path.iterdir()] == [path.name, 'written.json']


def test_a_log_without_digests_is_cut_by_what_can_be_read(tmp_path, caplog):
  path = tmp_path / 'metrics.jsonl'
  # A crash tore the last line, another one a line that writing went on behind.
  path.write_text(
    '{"step": 1, "x": 0.1}\n{"step": 2, "x": 0.2}\n{"step": 2, "y": 0.3}\n'
    '{"step": 3, {"step": 3}\n{"step": 3, "x": 0.4}\n{"step": 4, "x"'
  )
  assert not damage(path)
  written_files.Log(path, 2).close()
  assert [json.loads(line) for line in path.read_text().splitlines()] == [
    {'step': 1, 'x': 0.1},
    {'step': 2, 'x': 0.2},
    {'step': 2, 'y': 0.3},
  ]
  assert 'line 4 is torn' in caplog.text


def flip(path):
  """One digit of the line of step 20 is another one; it can still be read."""
  path.write_text(path.read_text().replace('"step": 20', '"step": 21'))


@pytest.mark.parametrize(
  ('change', 'lost', 'left'),
  [
    (flip, '1 of 5 lines are lost, step 20', [10, 30, 40, 40]),
    (
      lambda path: path.write_text(''),
      '5 of 5 lines are lost, steps 10 to 40',
      [],
    ),
    (lambda path: path.unlink(), '5 of 5 lines are lost, steps 10 to 40', []),
    (
      lambda path: path.write_bytes(path.read_bytes()[:-3]),
      '1 of 5 lines are lost, step 40',
      [10, 20, 30, 40],
    ),
    (
      lambda path: path.write_text(
        ''.join(path.read_text().splitlines(keepends=True)[1::2])
      ),
      '3 of 5 lines are lost, steps 10, 30 to 40',
      [20, 40],
    ),
  ],
)
def test_what_is_lost_of_a_log_is_named_once(
  tmp_path, caplog, change, lost, left
):
  path = tmp_path / 'samples.jsonl'
  write_log(path, [10, 20, 30, 40, 40])
  change(path)
  damaged = path.read_bytes() if path.exists() else b''
  assert damage(path) == {'samples.jsonl': f'is damaged: {lost}'}
  records = written_files.WrittenFiles(tmp_path).records(path)
  assert [record['step'] for record in records] == left
  # Whoever goes on says so once, and leaves a note and the file as it was.
  write_log(path, [50], step=40)
  assert caplog.text.count(f'{path} is damaged: {lost}') == 1
  assert steps_of(path) == [*left, 50]
  noted = json.loads((tmp_path / 'written.json').read_text())
  assert noted['lost'] == {'samples.jsonl': [lost]}
  aside = tmp_path / 'samples.jsonl.damaged'
  assert (aside.read_bytes() if aside.exists() else b'') == damaged
  caplog.clear()
  write_log(path, [60], step=50)
  assert not caplog.text
  assert not damage(path)


def test_whole_files(tmp_path):
  path = tmp_path / 'config.json'
  written = written_files.WrittenFiles(tmp_path)
  assert written.is_intact(path)
  assert not written.has(path)
  written.replace_json(path, {'a': 1})
  written.replace_json(path, {'a': 2})
  assert json.loads(path.read_text()) == {'a': 2}
  assert written.is_intact(path)
  assert written.accepts(path, path.read_bytes())
  assert not written.damage()
  path.write_text(path.read_text().replace('2', '3'))
  assert not written.is_intact(path)
  assert written.damage() == {'config.json': 'is damaged'}
  path.unlink()
  assert not written.is_intact(path)
  assert written.damage() == {'config.json': 'is missing'}
  written.remove(path)
  assert written.is_intact(path)
  assert not written.damage()


def test_killed_between_digest_and_file(tmp_path, monkeypatch):
  path = tmp_path / 'results.json'
  written = written_files.WrittenFiles(tmp_path)
  for before in (None, 'a', 'b', 'a'):
    if before:
      written.replace(path, before)
    for after in ('c', 'd'):
      with monkeypatch.context() as patch:
        patch.setattr(json_files, 'write_text', _only_digests)
        written.replace(path, after)
      if before:
        assert written.is_intact(path), (before, after)
        assert not written.accepts(path, b'elsewhere')


def _only_digests(path, text, call=json_files.write_text):
  if path.name == 'written.json':
    call(path, text)


def test_damaged_digests_accuse_nobody(tmp_path):
  path = tmp_path / 'config.json'
  written = written_files.WrittenFiles(tmp_path)
  written.replace(path, 'a')
  digests = tmp_path / 'written.json'
  text = digests.read_text()
  for content in (text.replace('files', 'filet'), '', '[]', '7', '{}'):
    digests.write_text(content)
    assert written.is_intact(path)
    assert list(written.damage()) == ['written.json']
  digests.unlink()
  assert not written.damage()


def test_lines_wait_for_a_disk_that_is_full(tmp_path, caplog):
  path = tmp_path / 'log.jsonl'
  log = written_files.Log(path, 0)
  log.write({'step': 1})
  own = log._file
  with open('/dev/full', 'ab', buffering=0) as log._file:
    log.write({'step': 2})
    log.write({'step': 3})
    with pytest.raises(OSError, match='No space left'):
      log.note()
  assert caplog.text.count('its lines wait for the disk') == 1
  log._file = own
  log.write({'step': 4})
  log.note()
  log.close()
  assert [r['step'] for r in json_files.read_lines(path)] == [1, 2, 3, 4]
  assert not written_files.WrittenFiles(tmp_path).damage()
