"""Damage outside checkpoints: nothing wrong is loaded without a word.

Every file of a run directory is damaged in turn, and every command run on it:
it ends as with the undamaged run, or the file is named in a line.
"""

import gc
import io
import json
import os
import shutil
import signal
import sys

import pytest

from experiments import chat, convert, evaluate, report
from experiments.run import damage, run_directory
from score_jax.io import metric_log
from tests.support import small_run


def _flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


DAMAGES = {
  'flip': _flip,
  'truncate': lambda path: path.write_bytes(
    path.read_bytes()[: path.stat().st_size // 2]
  ),
  'empty': lambda path: path.write_bytes(b''),
  'remove': lambda path: path.unlink(),
}


def files_with_digests(run):
  """Paths, in a run, of the files that damage is found of."""
  for digests in sorted(run.rglob('written.json')):
    noted = json.loads(digests.read_text())
    for name in (*noted['files'], *noted['logs']):
      yield str((digests.parent / name).relative_to(run))


@pytest.fixture
def copied(finished, tmp_path):
  return shutil.copytree(finished, tmp_path / 'run')


def test_what_a_run_has_written_has_digests(finished):
  assert sorted(files_with_digests(finished)) == [
    'base/evaluation.jsonl',
    'base/finished.json',
    'base/metrics.jsonl',
    'base/samples.jsonl',
    'config.json',
    'results.json',
    *[
      f'{stage}/{name}'
      for stage in ('stage1', 'stage2')
      for name in (
        'evaluation.jsonl', 'finished.json', 'metrics.jsonl', 'samples.jsonl'
      )
    ],
    'tokenizer.model',
  ]  # fmt: skip


@pytest.mark.parametrize('how', DAMAGES)
def test_every_damaged_file_is_named(copied, how, caplog):
  directory = run_directory.RunDirectory(copied)
  damage.check(directory)
  assert not caplog.text
  for name in files_with_digests(copied):
    path = copied / name
    before = path.read_bytes()
    if not before:
      # No samples of the base policy: there is nothing to lose.
      continue
    DAMAGES[how](path)
    caplog.clear()
    if name == 'tokenizer.model':
      with pytest.raises(run_directory.RunError, match=str(path)):
        damage.check(directory)
    else:
      damage.check(directory)
      assert caplog.text.count(str(path)) == 1, name
    path.write_bytes(before)


def run_command(name, path, target, monkeypatch):
  """Exit code of a command on a run; `target` is what convert makes."""
  monkeypatch.setattr(sys, 'stdin', io.StringIO('3+4\n'))
  commands = {
    'train': lambda: small_run.main(path),
    'evaluate': lambda: evaluate.main([f'--run-dir={path}']),
    'chat': lambda: chat.main([f'--run-dir={path}']),
    'report': lambda: report.main([str(path)]),
    'convert': lambda: convert.main([f'--from={path}', f'--to={target}']),
  }
  shutil.rmtree(target, ignore_errors=True)
  return commands[name]()


COMMANDS = ('train', 'evaluate', 'chat', 'report', 'convert')


@pytest.mark.parametrize('command', COMMANDS)
@pytest.mark.parametrize('name', ['tokenizer.model', 'config.json'])
def test_what_no_command_goes_on_without(
  copied, tmp_path, capsys, monkeypatch, command, name
):
  # Of a JSON type that no config.json is of; a digit of the settings' is worse.
  content = {'tokenizer.model': b'\x00', 'config.json': b'[5]'}[name]
  (copied / name).write_bytes(content)
  if (command, name) == ('train', 'config.json'):
    # With the same flags it would be made again.
    code = small_run.main(copied, '--checkpoint-every=3')
  else:
    code = run_command(command, copied, tmp_path / 'out', monkeypatch)
  assert code == 2
  said = capsys.readouterr().err
  assert said.startswith(f'error: {copied / name} is damaged')
  assert said.count('\n') == 1


def test_a_run_goes_on_without_a_damaged_log(
  finished, tmp_path, capsys, caplog
):
  path = small_run.copy(finished, tmp_path / 'run')
  stage = path / 'stage2'
  # As a run that is killed between its last checkpoint and its results.
  directory = run_directory.RunDirectory(stage.parent).stage(stage.name)
  directory.written.remove(stage / 'finished.json')
  _flip(stage / 'metrics.jsonl')
  (stage / 'samples.jsonl').unlink()
  # Of Stage I only the policy is left, and this tells that it is finished.
  marker = path / 'stage1' / 'finished.json'
  _flip(marker)
  assert small_run.main(path) == 0
  assert caplog.text.count(f'{marker} was damaged or missing; it is made') == 1
  lines = f'{stage / "metrics.jsonl"} is damaged: 1 of 4 lines are lost, step 2'
  assert caplog.text.count(lines) == 1
  lines = f'{stage / "samples.jsonl"} is damaged: 8 of 8 lines are lost, steps'
  assert caplog.text.count(f'{lines} 2 to 4') == 1
  # The policy does not depend on logs.
  assert small_run.results(path) == small_run.results(finished)
  names = {'checkpoints', 'finished.json', 'evaluation.jsonl'}
  found, expected = (
    {n: c for n, c in small_run.outcome(run).items() if names & set(n.parts)}
    for run in (path, finished)
  )
  assert found == expected
  kept = [r for r in small_run.metrics(finished, 'stage2') if r['step'] != 2]
  assert small_run.metrics(path, 'stage2') == kept
  lost = json.loads((stage / 'written.json').read_text())['lost']
  assert set(lost) == {'metrics.jsonl', 'samples.jsonl'}


class Trials:
  """Commands on copies of a run, in one place: paths are part of outputs."""

  def __init__(self, run, folder, monkeypatch, capsys, caplog):
    self.run, self.path, self._target = run, folder / 'run', folder / 'out'
    self._patch, self._capsys, self._caplog = monkeypatch, capsys, caplog
    self.undisturbed = {name: self.attempt(name) for name in COMMANDS}

  def attempt(self, command, *names, how=None):
    """(what a command said, what it left) of a run with damaged files."""
    shutil.rmtree(self.path, ignore_errors=True)
    shutil.copytree(self.run, self.path)
    for name in names:
      DAMAGES[how](self.path / name)
    self._capsys.readouterr()
    self._caplog.clear()
    # An exception would be a traceback.
    code = run_command(command, self.path, self._target, self._patch)
    out, err = self._capsys.readouterr()
    assert code in (0, 1, 2)
    assert code == 0 or err.startswith('error: ')
    left = {}
    if command == 'train':
      left = small_run.outcome(self.path)
    elif command == 'report':
      left = (
        {'page': (self.path / 'report.html').read_bytes()} if not code else {}
      )
    elif command == 'convert':
      left = {p.name: p.read_bytes() for p in self._target.glob('*')}
    return out + err + self._caplog.text, (code, left)

  def check(self, command, *names, how):
    """Whether a command's result is the undisturbed one, and if not, named."""
    said, result = self.attempt(command, *names, how=how)
    before, expected = self.undisturbed[command]
    if command in ('chat', 'evaluate'):
      is_same = said == before
    else:
      is_same = result == expected
    is_named = any(part in said for name in names for part in _names(name))
    return 'same' if is_same else 'named' if is_named else 'SILENT'


def _names(name):
  """What a file may be called: a checkpoint's files are not told apart."""
  head, found, rest = name.partition('checkpoints/')
  return [f'{head}{found}{rest.partition("/")[0]}' if found else name]


def _unread(name):
  """Whether no command reads a file, but one may write it anew."""
  parts = name.split('/')
  return parts[0] in ('report', 'report.html', 'curves.png', 'lock') or (
    'tensorboard' in parts
  )


def _damage_all(trials, pairs):
  """Damages, by pairs of command and file, in every way; what came of each."""
  return {
    (command, how, name): trials.check(command, name, how=how)
    for command, name in pairs
    for how in DAMAGES
  }


def _report(table):
  for row, found in table.items():
    print(*row, found, sep='\t')
  assert 'SILENT' not in table.values()


def _files(run):
  """Files of a run that commands read, and of the newest checkpoint.

  Without empty ones, of which there is nothing to lose.
  """
  names = [
    str(path.relative_to(run))
    for path in run.rglob('*')
    if path.is_file() and path.stat().st_size
  ]
  read = sorted(name for name in names if not _unread(name))
  checkpoints = [n for n in read if n.startswith('stage2/checkpoints/')]
  newest = '/'.join(checkpoints[-1].split('/')[:3])
  return (
    [name for name in read if '/checkpoints/' not in name],
    [name for name in checkpoints if name.startswith(f'{newest}/')],
    [name for name in names if _unread(name)],
  )


# 5 minutes on one core.
@pytest.mark.slow
def test_every_file_of_a_finished_run_damaged_in_every_way(
  finished, tmp_path, monkeypatch, capsys, caplog
):
  trials = Trials(finished, tmp_path, monkeypatch, capsys, caplog)
  outside, checkpoint, unread = _files(finished)
  for how in DAMAGES:
    for command in COMMANDS:
      assert trials.check(command, *unread, how=how) == 'same', (command, how)
  pairs = [(command, name) for command in COMMANDS for name in outside]
  # Evaluate and chat read them by the same function.
  pairs += [('convert', name) for name in checkpoint]
  _report(_damage_all(trials, pairs))


# 5 minutes on one core.
@pytest.mark.slow
# Of Orbax's tasks that read beside one that failed, in a process that goes on.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_every_file_of_an_interrupted_run_damaged_in_every_way(
  finished, tmp_path, monkeypatch, capsys, caplog
):
  interrupt(finished, tmp_path / 'run', monkeypatch)
  run = (tmp_path / 'run').rename(tmp_path / 'interrupted')
  trials = Trials(run, tmp_path, monkeypatch, capsys, caplog)
  outside, checkpoint, unread = _files(run)
  for how in DAMAGES:
    assert trials.check('train', *unread, how=how) == 'same', how
  pairs = [('train', name) for name in (*outside, *checkpoint)]
  _report(_damage_all(trials, pairs))
  # Here, where their complaints are expected.
  gc.collect()


def interrupt(finished, path, monkeypatch):
  """A copy of a run that was stopped after three of stage 2's four steps."""
  shutil.copytree(finished, path)
  shutil.rmtree(path / 'stage2')
  results = small_run.results(path)
  del results['stage2']
  run_directory.RunDirectory(path).write_results(results)
  write = metric_log.MetricsLog.write

  def write_and_signal(log, step, metrics):
    write(log, step, metrics)
    if step == 3:
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(metric_log.MetricsLog, 'write', write_and_signal)
    assert small_run.main(path) == 128 + signal.SIGTERM
