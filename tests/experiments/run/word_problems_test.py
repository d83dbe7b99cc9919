"""The same program on real questions, which a tiny model cannot answer."""

import io
import json
import sys

import pytest

from experiments import chat, train
from tests.support import shared_data, small_run

FLAGS = (
  *small_run.MODEL,
  '--mesh.fsdp=1',
  '--task=gsm8k',
  '--pretrain.steps=2',
  '--pretrain.rows=2',
  '--max-attempt-tokens=6',
  '--steps-stage1=2',
  '--steps-stage2=2',
  '--problems-per-step=2',
  '--samples-per-problem=2',
  '--eval-problems=3',
)


def check(path, said):
  said = ' '.join(said.split())
  sentence = 'Share of problems without reward spread: 100 %.'
  assert said.count(sentence) == 2
  assert said.count('so nothing was learnt') == 2
  for numbers in small_run.results(path).values():
    assert (numbers['acc_t1'], numbers['problems']) == (0.0, 3)
  for stage in ('stage1', 'stage2'):
    records = small_run.metrics(path, stage)
    assert [r['score/frac_zero_spread'] for r in records] == [1.0, 1.0]
    assert [r['reward/unparseable'] for r in records] == [8.0, 8.0]


def write_rows(path, count, start):
  rows = [
    {
      'question': f'Ann has {n} apples and buys {n + 1} more. How many now?',
      'answer': f'{n} + {n + 1} = {2 * n + 1}\n#### {2 * n + 1}',
    }
    for n in range(start, start + count)
  ]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


@pytest.mark.slow
def test_rows_in_gsm8k_format(tmp_path, capsys, monkeypatch):
  data = tmp_path / 'data'
  data.mkdir()
  write_rows(data / 'train.jsonl', 12, 1)
  write_rows(data / 'test.jsonl', 5, 100)
  path = tmp_path / 'run'
  arguments = [*FLAGS, f'--data-dir={data}', f'--run-dir={path}']
  assert train.main([*arguments, '--max-prompt-tokens=450']) == 0
  check(path, capsys.readouterr().out)
  # A question without a reference gets attempts and no verdict.
  question = 'Ann has 3 apples and buys 4 more. How many now?'
  long = question * 20
  monkeypatch.setattr(sys, 'stdin', io.StringIO(f'{question}\n{long}\n'))
  assert chat.main([f'--run-dir={path}']) == 0
  said = capsys.readouterr().out
  assert said.count('attempt 2') == 1
  assert 'wrong' not in said
  assert 'shorten it' in said


def test_no_prompt_that_fits_is_rejected(tmp_path, capsys):
  write_rows(tmp_path / 'train.jsonl', 12, 1)
  write_rows(tmp_path / 'test.jsonl', 5, 100)
  arguments = [*FLAGS, f'--data-dir={tmp_path}', f'--run-dir={tmp_path}/run']
  assert train.main([*arguments, '--max-prompt-tokens=10']) == 2
  message = capsys.readouterr().err
  assert 'no train problem of gsm8k has a prompt of at most 10' in message
  assert 'raise --max-prompt-tokens' in message


def test_a_directory_without_the_data_is_rejected(tmp_path, capsys):
  arguments = [*FLAGS, f'--data-dir={tmp_path}', f'--run-dir={tmp_path}/run']
  assert train.main(arguments) == 2
  message = capsys.readouterr().err
  assert 'gsm8k/train.jsonl' in message
  assert '--data-dir' in message


def test_a_download_without_its_library_is_rejected(
  tmp_path, capsys, monkeypatch
):
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  assert train.main([*FLAGS, f'--run-dir={tmp_path}/run']) == 2
  message = capsys.readouterr().err
  assert 'tensorflow-datasets' in message
  assert '--data-dir' in message


@pytest.mark.slow
def test_gsm8k_itself(tmp_path, capsys):
  data = shared_data.path('gsm8k')
  path = tmp_path / 'run'
  arguments = [*FLAGS, f'--data-dir={data}', f'--run-dir={path}']
  assert train.main([*arguments, '--max-prompt-tokens=512']) == 0
  check(path, capsys.readouterr().out)
