"""What starts runs elsewhere, as far as that can be seen from here."""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import time

import pytest

from experiments.config import command_line

ROOT = pathlib.Path(__file__).resolve().parents[1]
LAUNCH = ROOT / 'launch'
# Runs what is sent to workers in a directory for each of two.
GCLOUD = """#!/usr/bin/env bash
set -euo pipefail
verb=$4 workers="0 1"
for argument in "${@:5}"; do
  case $argument in
    --worker=all) ;;
    --worker=*) workers=${argument#--worker=} ;;
    --command=*) command=${argument#--command=} ;;
  esac
done
echo "$*" >>"$WORKERS/calls"
for worker in $workers; do
  cd "$WORKERS/$worker"
  if [[ $verb == scp ]]; then cp "$5" .; else bash -c "$command"; fi
done
"""
# Instead of set-up and program: says its arguments, and waits to be stopped.
WITH = """#!/usr/bin/env bash
trap 'echo stopped; exit' TERM
printf '<%s>' "$@"; echo
while :; do sleep 0.05; done
"""


def write_program(path: pathlib.Path, text: str) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  path.chmod(0o755)


def wait_for(path: pathlib.Path, text: str) -> None:
  deadline = time.monotonic() + 60
  while not (path.is_file() and text in path.read_text()):
    assert time.monotonic() < deadline, f'{path} never had {text!r}'
    time.sleep(0.05)


@pytest.fixture
def workers(tmp_path):
  """Two directories that stand for workers."""
  for worker in '01':
    (tmp_path / 'workers' / worker).mkdir(parents=True)
  yield tmp_path / 'workers'
  for file in (tmp_path / 'workers').glob('*/score_jax.pid'):
    try:
      os.kill(int(file.read_text()), signal.SIGKILL)
    except ProcessLookupError:
      continue


def test_tpu_vm_starts_every_worker_and_stops_the_first(tmp_path, workers):
  clone = tmp_path / 'clone'
  write_program(clone / 'launch' / 'with.sh', WITH)
  shutil.copy(LAUNCH / 'tpu_vm.sh', clone / 'launch')
  write_program(tmp_path / 'bin' / 'gcloud', GCLOUD)
  write_program(tmp_path / 'bin' / 'python3.11', '#!/bin/sh\n')
  git = ['git', '-C', str(clone), '-c', 'user.name=a', '-c', 'user.email=a@b']
  for command in (['init', '-q'], ['add', '.'], ['commit', '-qm', 'one']):
    subprocess.run([*git, *command], check=True)
  environment = os.environ | {
    'PATH': f'{tmp_path / "bin"}:{os.environ["PATH"]}',
    'TPU': 'pod',
    'ZONE': 'here',
    'WORKERS': str(workers),
  }

  def tpu_vm(*arguments):
    return subprocess.run(
      ['bash', str(clone / 'launch' / 'tpu_vm.sh'), *arguments],
      env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

  strange = '--instruction=Look again: isn\'t $HOME "wrong"?'
  started = tpu_vm('start', 'experiments.train', '--run-dir=/a b', strange)
  assert started.returncode == 0, started.stderr
  for worker in '01':
    log = workers / worker / 'score_jax.log'
    wait_for(log, '\n')
    assert log.read_text() == (
      f'<tpu><experiments.train><--run-dir=/a b><{strange}>'
      '<--processes.coordinator=auto>\n'
    )
  calls = (workers / 'calls').read_text()
  assert calls.count('compute tpus tpu-vm ssh pod --zone=here') >= 3
  stopped = tpu_vm('stop')
  assert stopped.returncode == 0, stopped.stderr
  wait_for(workers / '0' / 'score_jax.log', 'stopped')
  assert 'stopped' not in (workers / '1' / 'score_jax.log').read_text()
  # Without a name for it there is nothing to start.
  del environment['TPU']
  refused = tpu_vm('start', 'experiments.train')
  assert refused.returncode == 2
  assert 'export TPU=NAME' in refused.stdout


@pytest.mark.parametrize(
  'script', sorted(LAUNCH.glob('*.sh')), ids=lambda path: path.name
)
def test_scripts_are_bash(script):
  subprocess.run(['bash', '-n', str(script)], check=True)


@pytest.mark.skipif(not shutil.which('shellcheck'), reason='no shellcheck')
def test_shellcheck_has_no_complaint():
  scripts = [str(path) for path in sorted(LAUNCH.glob('*.sh'))]
  subprocess.run(
    ['shellcheck', '--external-sources', *scripts], cwd=ROOT, check=True
  )


def commands_of(path: pathlib.Path) -> list[list[str]]:
  """Command lines of this repository's programs in a file of launch/."""
  text = path.read_text()
  if path.suffix == '.ipynb':
    cells = json.loads(text)['cells']
    text = '\n'.join(
      ''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code'
    )
    lines = text.replace('\\\n', ' ').splitlines()
  else:
    # The arguments of a container: a YAML list of plain strings.
    found = re.search(r'args:.*\n((?: +- .*\n)+)', text)
    lines = [found.group(1).replace('- ', ' ').replace('\n', ' ')]
  return [
    shlex.split(line[line.index('experiments.') :])
    for line in lines
    if 'experiments.' in line
  ]


@pytest.mark.parametrize(
  'name', ['colab/gemma3_270m_gsm8k.ipynb', 'gke/jobset.yaml']
)
def test_runs_elsewhere_have_flags_that_are_there(name, tmp_path):
  runs = [
    line for line in commands_of(LAUNCH / name)
    if line[0] == 'experiments.train'
  ]  # fmt: skip
  assert runs
  for _, *arguments in runs:
    # Directories that only the other machine has.
    local = [
      re.sub(r'^(--(?:init-from|data-dir)=).*', rf'\1{tmp_path}', argument)
      for argument in arguments
    ]
    settings = command_line.parse_settings(local)
    assert settings.preset != 'tiny'
    assert settings.run_dir


def test_the_notebook_is_one():
  notebook = json.loads(
    (LAUNCH / 'colab' / 'gemma3_270m_gsm8k.ipynb').read_text()
  )
  assert (notebook['nbformat'], notebook['nbformat_minor']) == (4, 0)
  assert set(notebook) == {'cells', 'metadata', 'nbformat', 'nbformat_minor'}
  for cell in notebook['cells']:
    # Short: a cell runs a command, and nothing was run.
    assert len(cell['source']) <= 5
    if cell['cell_type'] == 'code':
      assert cell['outputs'] == []
      assert cell['execution_count'] is None
