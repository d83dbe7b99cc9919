"""Processes that share nothing but a bucket, and some that share nothing.

Each process has a working directory, a home and temporary files of its own.
"""

import json
import os
import re
import signal
import time

import pytest

from experiments.run import run_directory
from score_jax.io import buckets
from tests.experiments.run import processes_test
from tests.support import object_server, process_group, small_run

RUN = f'{object_server.URL}/runs/one'
# A process kills itself when it has logged a step.
SEPARATE = """
import os, signal, sys, tempfile
folder, kill, *arguments = sys.argv[1:]
own = os.path.join(folder, os.environ['JAX_PROCESS_ID'])
os.makedirs(own, exist_ok=True)
os.chdir(own)
tempfile.tempdir = os.environ['HOME'] = own
from experiments import train
from score_jax.io import metric_log
write = metric_log.MetricsLog.write
def write_and_die(log, done, metrics):
  write(log, done, metrics)
  if f'{log._stage}/{done}' == kill:
    os.kill(os.getpid(), signal.SIGKILL)
metric_log.MetricsLog.write = write_and_die
sys.exit(train.main(arguments))
"""
NEVER = '-'
# Four batches and four updates in one round.
STAR = (
  '--method=star_plus',
  '--sft.rounds=1',
  '--sft.epochs=None',
  '--pretrain.steps=220',
)


def start(folder, run_dir, environment, kill=NEVER, flags=()):
  """Two separate processes of one run, each with one device."""
  return process_group.finish(
    process_group.start(
      '-c', SEPARATE, str(folder), kill, *processes_test.FLAGS, *flags,
      f'--run-dir={run_dir}', devices=1,
      environment=dict(environment) | {'PYTHONPATH': str(process_group.ROOT)},
    ),
    timeout=1500,
  )  # fmt: skip


@pytest.fixture(scope='module')
def server():
  with object_server.serve() as environment:
    yield environment


@pytest.fixture(scope='module')
def environment(server, compiled):
  return compiled | server


@pytest.fixture(scope='module')
def two(environment, tmp_path_factory):
  """URL of a run that two separate processes made."""
  folder = tmp_path_factory.mktemp('two')
  for ended in start(folder, RUN, environment):
    assert ended.returncode == 0, ended.errors[-3000:]
  # Not even the first one's files are left.
  left = [p for p in folder.rglob('*') if p.name.startswith('score_jax-')]
  assert left == []
  return RUN


def numbers(url):
  """What a run left, by name: texts, metrics but times, sums of checkpoints."""
  found = {}
  files = buckets.filesystem(url)
  for name in buckets.listing(url):
    content = files.cat(f'{url}/{name}')
    if re.search(r'checkpoints/\d+/manifest/metadata$', name):
      found[name] = json.loads(content)['leaves']
    elif name.endswith('metrics.jsonl'):
      found[name] = [
        {k: v for k, v in json.loads(line).items() if 'perf/' not in k}
        for line in content.splitlines()
      ]
    elif name.endswith(('.jsonl', 'results.json', 'finished.json')):
      found[name] = content
  return found


@pytest.mark.slow
@object_server.needs_packages
def test_two_that_share_only_a_bucket_leave_everything_in_it(two):
  names = buckets.listing(two).keys()
  assert {
    'config.json', 'tokenizer.model', 'results.json', 'report.html',
    'curves.png', 'base/metrics.jsonl', 'stage2/samples.jsonl',
    'stage2/evaluation.jsonl', 'stage2/checkpoints/2/commit_success.txt',
  } <= names  # fmt: skip
  assert any('stage1/tensorboard/events' in name for name in names)
  assert not any(re.search(r'(^|/)(lock|\.[^/]*)$', name) for name in names)
  assert [
    len(numbers(two)[f'{stage}/metrics.jsonl'])
    for stage in ('base', 'stage1', 'stage2')
  ] == [2, 2, 2]


@pytest.mark.slow
@object_server.needs_packages
def test_killed_and_resumed_it_is_the_same_run(two, environment, tmp_path):
  url = f'{object_server.URL}/runs/killed'
  files = buckets.filesystem(url)
  for name in buckets.listing(two):
    if not name.startswith(('stage2/', 'results.json')):
      files.cp_file(f'{two}/{name}', f'{url}/{name}')
  first, second = start(tmp_path, url, environment, kill='stage2/2')
  assert first.returncode == -signal.SIGKILL
  assert second.returncode != 0
  # The log of the second step, and its checkpoint, died with the first one.
  assert 'stage2/finished.json' not in numbers(url)
  assert 'lock' in buckets.listing(url)
  # On other machines: nothing local is left.
  first, second = start(tmp_path / 'others', url, environment)
  assert (first.returncode, second.returncode) == (0, 0), first.errors[-3000:]
  assert 'did not renew its lock' in first.errors
  assert numbers(url) == numbers(two)


@pytest.mark.slow
@object_server.needs_packages
def test_a_supervised_round_that_is_killed_is_the_same(environment, tmp_path):
  """All learn from the episodes that the first process wrote, also later."""
  whole, url = f'{object_server.URL}/star', f'{object_server.URL}/star_killed'
  for ended in start(tmp_path / 'whole', whole, environment, flags=STAR):
    assert ended.returncode == 0, ended.errors[-3000:]
  files = buckets.filesystem(url)
  pairs = json.loads(files.cat(f'{whole}/round1/pairs.json'))
  assert pairs['episodes'] == 64
  assert pairs['found'] > 0
  sampled = [f'round1/collected/{n:06d}.npz' for n in range(4)]
  assert {*sampled, 'round1/pairs.jsonl'} <= buckets.listing(whole).keys()
  # As after a kill while the third batch was sampled, ...
  for name in buckets.listing(whole):
    if not name.startswith(('round1/', 'results.json')) or name in sampled[:2]:
      files.cp_file(f'{whole}/{name}', f'{url}/{name}')
  before = buckets.listing(url)
  first, second = start(tmp_path / 'a', url, environment, 'round1/3', STAR)
  # ... and after one at the third update.
  assert first.returncode == -signal.SIGKILL, first.errors[-3000:]
  assert second.returncode != 0
  first, second = start(tmp_path / 'b', url, environment, flags=STAR)
  assert (first.returncode, second.returncode) == (0, 0), first.errors[-3000:]
  assert numbers(url) == numbers(whole)
  after = buckets.listing(url)
  assert [after[n] for n in sampled[:2]] == [before[n] for n in sampled[:2]]


@pytest.mark.slow
@object_server.needs_packages
def test_a_second_trainer_is_refused(two, server, tmp_path, capsys):
  del server
  directory = run_directory.RunDirectory(two)
  with directory.lock():
    begun = time.monotonic()
    assert small_run.main(two) == 2
    assert time.monotonic() - begun < 20
  said = capsys.readouterr().err
  assert f'{two} is being written by process {os.getpid()} on' in said


def program(environment, name, *arguments):
  """What a program says, run as one process with one device."""
  [ended] = process_group.run(
    '-m', f'experiments.{name}', *arguments, processes=1, devices=1,
    environment=environment,
  )  # fmt: skip
  return ended.output


@pytest.mark.slow
@object_server.needs_packages
def test_readers_read_a_bucket(two, environment):
  run_dir = f'--run-dir={two}'
  said = program(environment, 'evaluate', run_dir, '--samples=2',
                 '--temperature=1')  # fmt: skip
  assert f'kept as {two}/evaluations/' in said
  assert any(n.startswith('evaluations/') for n in buckets.listing(two))
  assert program(environment, 'report', two).startswith(f'{two}/report.html')
  assert f'stage2 of {two}' in program(environment, 'chat', run_dir)


@pytest.mark.slow
@object_server.needs_packages
def test_convert_reads_and_writes_buckets(two, environment, tmp_path):
  exported = f'{object_server.URL}/exported'
  program(environment, 'convert', f'--from={two}', f'--to={exported}',
          '--verify')  # fmt: skip
  assert 'model.safetensors' in buckets.listing(exported)
  [again] = process_group.finish(
    process_group.start(
      '-m', 'experiments.convert', f'--from={two}', f'--to={exported}',
      processes=1, environment=environment,
    )
  )  # fmt: skip
  assert again.returncode == 2
  assert f'--to={exported} already exists' in again.errors
  own_cache = environment | {'SCORE_JAX_CACHE': str(tmp_path / 'cache')}
  program(own_cache, 'convert', f'--from={exported}', f'--to={tmp_path}/again')
  assert (tmp_path / 'again' / 'model.safetensors').exists()


@pytest.mark.slow
def test_two_that_share_nothing_are_told_who_sees_nothing(compiled, tmp_path):
  begun = time.monotonic()
  ended = start(tmp_path, 'runs/separate', compiled)
  assert time.monotonic() - begun < 60
  for end in ended:
    assert end.returncode == 2
    assert '(process 1) cannot see what' in end.errors
    assert 'writes to runs/separate' in end.errors
    assert 'gs://BUCKET/NAME' in end.errors
  assert list((tmp_path / '0' / 'runs' / 'separate').glob('.*')) == []
