"""Metrics reach both files; TensorBoard's failure stops nothing."""

import io
import json
import math
import pathlib
import struct

import numpy as np
import pytest
from tensorboardX import record_writer
from tensorboardX.proto import event_pb2

from score_jax.io import metric_log


def read_events(directory):
  """(step, tag, value) of event files; None for the marks of a restart."""
  found = []
  for path in sorted(directory.iterdir(), key=lambda p: p.stat().st_mtime_ns):
    content = path.read_bytes()
    while content:
      # A record: its length (8 bytes), a checksum (4), itself, another one.
      (length,) = struct.unpack('<Q', content[:8])
      event = event_pb2.Event.FromString(content[12 : 12 + length])
      content = content[16 + length :]
      if event.HasField('session_log'):
        found.append((event.step, None, None))
      found += [
        (event.step, v.tag, v.simple_value) for v in event.summary.value
      ]
  return found


def open_log(path, step=0):
  return metric_log.MetricsLog(
    'stage1', path / 'metrics.jsonl', path / 'tensorboard', step
  )


def read_records(path):
  lines = (path / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_a_step_reaches_both_files(tmp_path):
  log = open_log(tmp_path)
  log.write(1, {'loss': np.float32(0.5), 'score/acc_t1': 1})
  record = {'stage': 'stage1', 'step': 1, 'loss': 0.5, 'score/acc_t1': 1.0}
  # On the disk's side while the log is open.
  assert read_records(tmp_path) == [record]
  assert read_events(tmp_path / 'tensorboard') == [
    (1, None, None), (1, 'loss', 0.5), (1, 'score/acc_t1', 1.0)
  ]  # fmt: skip
  log.close()
  log.close()


def test_what_is_not_finite(tmp_path, caplog):
  log = open_log(tmp_path)
  log.write(1, {'loss': math.nan, 'kl': math.inf})
  log.close()
  assert read_records(tmp_path) == [
    {'stage': 'stage1', 'step': 1, 'loss': None, 'kl': None}
  ]
  values = [v for _, tag, v in read_events(tmp_path / 'tensorboard') if tag]
  assert math.isnan(values[0])
  assert values[1] == math.inf
  # Whoever writes it says so, with names.
  assert not caplog.records


def test_no_step_comes_twice_after_a_restart(tmp_path):
  log = open_log(tmp_path)
  for step in range(1, 6):
    log.write(step, {'loss': step})
  log.close()
  # Killed after step 5, restored from the checkpoint of step 3.
  log = open_log(tmp_path, step=3)
  log.write(4, {'loss': 40})
  log.close()
  assert [(r['step'], r['loss']) for r in read_records(tmp_path)] == [
    (1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)
  ]  # fmt: skip
  # The mark at step 4 makes TensorBoard drop what it had from there on.
  assert (4, None, None) in read_events(tmp_path / 'tensorboard')


def test_tensorboard_cannot_be_opened(tmp_path, caplog):
  (tmp_path / 'tensorboard').write_text('a file where the directory should be')
  log = open_log(tmp_path)
  for step in (1, 2, 3):
    log.write(step, {'loss': 0.5})
  log.close()
  assert [r['step'] for r in read_records(tmp_path)] == [1, 2, 3]
  assert caplog.text.count('no more TensorBoard files') == 1


def test_a_disk_that_takes_no_more(tmp_path, caplog, monkeypatch):
  with pathlib.Path('/dev/full').open('wb', buffering=0) as full:
    file = io.BufferedWriter(full)
    monkeypatch.setattr(record_writer, 'open_file', lambda path: file)
    log = open_log(tmp_path)
    for step in range(1, 50):
      log.write(step, {'loss': 0.5})
    log.close()
    with pytest.raises(OSError, match='No space left'):
      file.close()
  assert len(read_records(tmp_path)) == 49
  assert caplog.text.count('no more TensorBoard files') == 1
