"""launch/tpu_vm.sh against a stand-in for gcloud and every fault it has."""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import time

import pytest

from tests.support import stand_in_gcloud

ROOT = pathlib.Path(__file__).resolve().parents[2]
# A Python for workers: installs nothing, and does what files of $FAULTS say.
# FAULTS/pip.1 fails installation on worker 1, with its text. A program prints
# its arguments, then runs FAULTS/program.1 once it is there.
PYTHON = """#!/usr/bin/env bash
worker=${HOSTNAME##*-}
case "$1 $2" in
  '-c '*) exit ;;
  '-m venv') mkdir -p "${@: -1}/bin"; cp "$0" "${@: -1}/bin/python" ;;
  '-m pip')
    [[ $3 == install && -e $FAULTS/pip.$worker ]] || exit 0
    cat "$FAULTS/pip.$worker"
    exit 1 ;;
  '-m experiments.doctor') echo 'devices    4 TPU' ;;
  *)
    trap 'echo stopped; exit 143' TERM
    printf '<%s>' "${@:2}"; echo
    while :; do
      [[ ! -e $FAULTS/program.$worker ]] || source "$FAULTS/program.$worker"
      sleep 0.05
    done ;;
esac
"""
# One that is too old; its pip brings uv, which brings the one above.
OLD_PYTHON = """#!/usr/bin/env bash
[[ "$1 $2 $3" == '-m pip install' && ${@: -1} == uv ]] || exit 1
mkdir -p ~/.local/bin
cat >~/.local/bin/uv <<'END'
#!/usr/bin/env bash
echo "$@" >>~/uv
mkdir -p "${@: -1}/bin"; cp "$NEW_PYTHON" "${@: -1}/bin/python"
END
chmod +x ~/.local/bin/uv
"""
LOCKED = """#!/bin/sh
echo 'E: Could not get lock /var/lib/dpkg/lock-frontend' >&2
exit 100
"""
SLICE = ('--name=pod', '--zone=here', '--type=v5e-8', '--every=0.2')
TRAIN = ('experiments.train', '--run-dir=/a b', '--x=isn\'t $HOME "wrong"?')


def write_program(path: pathlib.Path, text: str) -> pathlib.Path:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  path.chmod(0o755)
  return path


def wait_for(condition, what: str) -> None:
  deadline = time.monotonic() + 60
  while not condition():
    assert time.monotonic() < deadline, f'never: {what}'
    time.sleep(0.02)


class Place:
  """A clone, a Google Cloud, and what fails there."""

  def __init__(self, home: pathlib.Path):
    self.home = home
    self.started: list[subprocess.Popen] = []
    self.cloud = home / 'cloud'
    self.faults = home / 'faults'
    self.faults.mkdir()
    self.script = home / 'clone' / 'launch' / 'tpu_vm.sh'
    self.environment = os.environ | {
      'PATH': f'{home / "bin"}:{os.environ["PATH"]}',
      'TMPDIR': str(home),
      'FAULTS': str(self.faults),
      'PYTHON': str(write_program(home / 'python', PYTHON)),
    }
    for variable in ('HF_TOKEN', 'JAX_PLATFORMS', 'VIRTUAL_ENV'):
      self.environment.pop(variable, None)
    write_program(home / 'bin' / 'sudo', LOCKED)
    for file in ('environment.sh', 'tpu_vm.sh', 'tpu_worker.sh', 'with.sh'):
      text = (ROOT / 'launch' / file).read_text()
      # No Python of this machine.
      text = text.replace('/usr/bin/python3', 'python3')
      write_program(home / 'clone' / 'launch' / file, text)
    for file in ('requirements.txt', 'setup.cfg'):
      shutil.copy(ROOT / file, home / 'clone')
    git = ['git', '-C', str(home / 'clone')]
    me = ['-c', 'user.name=a', '-c', 'user.email=a@b']
    for command in (['init', '-q'], ['add', '.'], ['commit', '-qm', 'one']):
      subprocess.run([*git, *me, *command], check=True)

  def install(self, **told) -> None:
    stand_in_gcloud.install(self.cloud, self.home / 'bin' / 'gcloud', **told)

  def start(self, *arguments: str) -> subprocess.Popen:
    self.started.append(
      subprocess.Popen(
        ['bash', str(self.script), *arguments],
        env=self.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
      )
    )
    return self.started[-1]

  def call(self, *arguments: str, code: int = 0) -> str:
    return self.end(self.start(*arguments), code)

  def end(self, process: subprocess.Popen, code: int) -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    return output

  def worker(self, index: int) -> pathlib.Path:
    return stand_in_gcloud.worker(self.cloud, 'pod', index)

  def of_run(self, index: int, file: str) -> str:
    path = self.worker(index) / 'score_jax.run' / file
    return path.read_text() if path.is_file() else ''

  def log(self, index: int) -> str:
    return self.of_run(index, 'log')

  def pid(self, index: int) -> str:
    return self.of_run(index, 'pid').strip()

  def wait_for_log(self, text: str) -> None:
    for index in range(2):
      wait_for(lambda i=index: text in self.log(i), f'{text!r} in a log')

  def program(self, index: int, text: str) -> None:
    new = self.faults / 'new'
    new.write_text(text)
    new.rename(self.faults / f'program.{index}')

  def calls(self, verb: str) -> list[list[str]]:
    calls = stand_in_gcloud.read(self.cloud)['calls']
    return [call for call in calls if verb in ' '.join(call)]


@pytest.fixture
def place(tmp_path):
  found = Place(tmp_path)
  yield found
  for process in found.started:
    process.kill()
    process.communicate()
  for worker in found.cloud.glob('workers/*/*'):
    stand_in_gcloud.end_program(worker)


def test_run_from_nothing_to_the_end_and_delete(place):
  place.install()
  place.environment['HF_TOKEN'] = 'hf_me'
  run = place.start('run', *SLICE, '--spot', *TRAIN)
  expected = (
    '<experiments.train><--run-dir=/a b><--x=isn\'t $HOME "wrong"?>'
    '<--processes.coordinator=auto>\n'
  )
  place.wait_for_log(expected)
  # The same command in another terminal starts nothing, and only watches.
  again = place.start('run', *SLICE, '--spot', *TRAIN)
  watching = place.start('attach', *SLICE)
  wait_for(lambda: len(place.calls('log ')) > 9, 'three that watch')
  for index in range(2):
    place.program(index, 'echo "last words of $HF_TOKEN"; exit 0')
  for process in (run, again, watching):
    output = place.end(process, 0)
    assert expected in output
    assert 'last words of hf_me' in output
    assert output.endswith('Finished.\n')
  [created] = place.calls('queued-resources create')
  assert created[3:] == [
    'create', 'pod', '--zone=here', '--node-id=pod',
    '--accelerator-type=v5litepod-8', '--runtime-version=v2-alpha-tpuv5-lite',
    '--spot',
  ]  # fmt: skip
  assert len(place.calls('tpu_worker.sh setup')) == 1
  assert len(place.calls('tpu_worker.sh start')) == 1
  assert not place.calls('hf_me')  # which other users of a machine can see
  shown = place.call('logs', *SLICE, '--worker=all')
  assert shown.count('last words') == 2
  assert 't1v-n-w-1: last words' in shown
  place.call('delete', *SLICE)
  assert stand_in_gcloud.read(place.cloud)['slices'] == {}
  assert not place.worker(0).exists()


@pytest.mark.slow
def test_setup_survives_a_locked_apt(place):
  place.install()
  place.call('create', *SLICE)
  few = place.home / 'few'
  place.environment['PATH'] = _without('bwrap', place.environment['PATH'], few)
  output = place.call('setup', *SLICE)
  assert 't1v-n-w-1: No bubblewrap (is apt locked?)' in output
  assert 't1v-n-w-0: Set up.' in output
  assert 't1v-n-w-0: devices    4 TPU' in output


def _without(name: str, path: str, few: pathlib.Path) -> str:
  """A PATH with all programs of another but one, by links."""
  few.mkdir()
  for directory in map(pathlib.Path, path.split(':')):
    for program in directory.iterdir() if directory.is_dir() else ():
      link = few / program.name
      if program.name != name and not link.is_symlink():
        link.symlink_to(program)
  return str(few)


@pytest.mark.slow
def test_setup_where_python_is_too_old(place):
  place.install()
  for name in ('python', 'python3', *(f'python3.{n}' for n in range(11, 14))):
    write_program(place.home / 'bin' / name, OLD_PYTHON)
  place.environment['NEW_PYTHON'] = place.environment.pop('PYTHON')
  few = place.home / 'few'
  place.environment['PATH'] = _without('uv', place.environment['PATH'], few)
  place.call('create', *SLICE)
  output = place.call('setup', *SLICE)
  assert 't1v-n-w-1: Set up.' in output
  asked = (place.worker(1) / 'uv').read_text()
  assert asked.startswith('venv --quiet --seed --python >=3.11,<3.14')


@pytest.mark.slow
def test_setup_shows_what_each_worker_says(place):
  place.install()
  for index in range(2):
    (place.faults / f'pip.{index}').write_text(f'ERROR: no disk on {index}\n')
  output = place.call('run', *SLICE, *TRAIN, code=1)
  for index in range(2):
    assert f't1v-n-w-{index}: ERROR: no disk on {index}' in output
  assert 'Setting up failed' in output
  assert place.log(0) == ''


def test_all_first_errors_are_shown_the_cause_first(place):
  place.install()
  run = place.start('run', *SLICE, *TRAIN)
  place.wait_for_log('<experiments.train>')
  # It would end worker 0 before that says something, if it looked often enough.
  run.send_signal(signal.SIGINT)
  assert 'The same command watches it' in place.end(run, 130)
  place.program(
    1,
    """echo step 7
       echo 'Traceback (most recent call last):'; echo '  File "a"'
       echo 'MemoryError: 1'; exit 1""",
  )
  wait_for(lambda: place.of_run(1, 'ended'), 'the end of worker 1')
  place.program(0, 'echo barrier timed out; exit 3')
  wait_for(lambda: place.of_run(0, 'ended'), 'the end of worker 0')
  output = place.call('attach', *SLICE, code=3)
  _, errors = output.split('Errors, the earliest first:\n')
  lines = errors.splitlines()
  assert lines[0].startswith('t1v-n-w-1: ended with exit code 1 at ')
  assert lines[1] == 't1v-n-w-1:   Traceback (most recent call last):'
  assert lines[3] == 't1v-n-w-1:   MemoryError: 1'
  assert lines[4].startswith('t1v-n-w-0: ended with exit code 3 at ')
  assert lines[-1] == 't1v-n-w-0: barrier timed out'
  assert 'step 7' not in errors


@pytest.mark.slow
def test_a_worker_that_waits_in_vain_is_ended(place):
  place.install()
  run = place.start('run', *SLICE, *TRAIN)
  place.wait_for_log('<experiments.train>')
  pid = place.pid(0)
  place.program(1, "echo 'error: --x=1 is wrong'; exit 2")
  output = place.end(run, 2)
  assert 't1v-n-w-1:   error: --x=1 is wrong' in output
  wait_for(lambda: not pathlib.Path(f'/proc/{pid}').exists(), 'the end of 0')


def test_a_preempted_slice_is_asked_for_again(place):
  place.install()
  run = place.start('run', *SLICE, '--spot', *TRAIN)
  place.wait_for_log('<experiments.train>')
  # What is taken away is told so first, as a stop tells it.
  os.kill(int(place.pid(0)), signal.SIGTERM)
  wait_for(lambda: place.of_run(0, 'ended').startswith('143 '), 'its end')
  stand_in_gcloud.preempt(place.cloud, 'pod')
  wait_for(lambda: len(place.calls('tpu_worker.sh start')) == 2, 'a new start')
  place.wait_for_log('<experiments.train>')
  for index in range(2):
    place.program(index, 'exit 0')
  output = place.end(run, 0)
  assert 'Stopped' not in output
  first, second = place.calls('queued-resources create')
  assert first == second
  assert len(place.calls('queued-resources delete')) == 1
  assert 'pod was taken away; the run goes on from its last' in output
  assert '<experiments.train>' in output


@pytest.mark.slow
def test_a_worker_that_was_rebooted_starts_again(place):
  place.install()
  run = place.start('run', *SLICE, *TRAIN)
  place.wait_for_log('<experiments.train>')
  before = place.pid(0)
  stand_in_gcloud.end_program(place.worker(1))
  wait_for(lambda: place.pid(0) not in ('', before), 'a new start of all')
  place.wait_for_log('<experiments.train>')
  for index in range(2):
    place.program(index, 'exit 0')
  place.end(run, 0)
  assert len(place.calls('queued-resources create')) == 1


@pytest.mark.slow
def test_workers_that_do_not_answer_for_a_while(place):
  place.install()
  run = place.start('run', *SLICE, *TRAIN)
  place.wait_for_log('<experiments.train>')
  stand_in_gcloud.silence(place.cloud, 3)
  wait_for(
    lambda: stand_in_gcloud.read(place.cloud)['silent'] == 0, 'three failures'
  )
  for index in range(2):
    place.program(index, 'exit 0')
  output = place.end(run, 0)
  assert 'The workers do not answer: ERROR: ' in output
  assert len(place.calls('tpu_worker.sh start')) == 1


def test_no_quota(place):
  place.install(quota=1)
  output = place.call('run', *SLICE, '--spot', *TRAIN, code=1)
  assert 'Limit: 0 in zone here.' in output
  assert 'No quota for v5e-8 as spot in here: ask for it' in output
  assert place.calls('ssh') == []
  # With quota the same command works, and waits where the cloud does.
  assert 'WAITING_FOR_RESOURCES' in place.call('create', *SLICE)


@pytest.mark.slow
def test_a_request_that_fails_says_why(place):
  place.install(waits=['FAILED', 'FAILED', 'FAILED'])
  output = place.call('create', *SLICE, code=1)
  assert 'The request failed: no such accelerator in this zone' in output


@pytest.mark.slow
def test_stop_ends_the_first_worker_and_a_watcher_says_so(place):
  place.install()
  run = place.start('run', *SLICE, *TRAIN)
  place.wait_for_log('<experiments.train>')
  stop = place.start('stop', *SLICE)
  wait_for(lambda: place.log(0).endswith('stopped\n'), 'the end of 0')
  # These programs do not know of each other, as the real ones do.
  place.program(1, 'exit 143')
  place.end(stop, 0)
  assert place.end(run, 143).endswith('Stopped.\n')


@pytest.mark.slow
def test_a_slice_that_was_deleted_is_not_asked_for_again(place):
  place.install()
  run = place.start('run', *SLICE, *TRAIN)
  place.wait_for_log('<experiments.train>')
  place.call('delete', *SLICE)
  assert 'pod was deleted.' in place.end(run, 1)
  assert len(place.calls('queued-resources create')) == 1


def dry_run(place, *arguments: str) -> list[list[str]]:
  """Command lines that --dry-run prints."""
  place.install()
  output = place.call(arguments[0], *SLICE, '--dry-run', *arguments[1:])
  assert not place.calls('')
  return [shlex.split(line) for line in output.splitlines()]


def test_dry_run_prints_commands_that_a_shell_could_run(place):
  lines = dry_run(place, 'run', '--spot', *TRAIN)
  verbs = [' '.join(line[1:5]) for line in lines]
  tpus = 'compute tpus tpu-vm'
  queue = 'compute tpus queued-resources'
  assert [verb for verb in verbs if verb != f'{tpus} ssh'] == [
    f'{queue} describe',
    f'{queue} create',
    f'{queue} describe',
    f'-C {place.home / "clone"} archive --format=tar.gz',
    f'{tpus} scp',
  ]
  # The slice, then each of them as it is.
  for line in lines[1:]:
    subprocess.run(line, env=place.environment, check=True, timeout=60)
    if line[4] == 'create':
      place.call('create', *SLICE)  # waits
  place.wait_for_log('<--x=isn\'t $HOME "wrong"?>')


@pytest.mark.parametrize(
  'command',
  [['create'], ['setup'], ['run', *TRAIN], ['attach'], ['logs'], ['stop'],
   ['delete']],
)  # fmt: skip
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('gcloud'), reason='no gcloud')
def test_gcloud_itself_knows_what_is_printed(place, command, tmp_path):
  """It parses a command before it finds that nobody is logged in."""
  real = shutil.which('gcloud')
  for line in dry_run(place, *command):
    if line[0] == 'gcloud':
      found = subprocess.run(
        [real, *line[1:], '--project=none'],
        env=os.environ | {'CLOUDSDK_CONFIG': str(tmp_path / 'nobody')},
        capture_output=True, text=True,
      )  # fmt: skip
      assert found.returncode == 1, found.stderr
      assert 'active account' in found.stderr, found.stderr


@pytest.mark.parametrize(
  'arguments',
  [[], ['run', *SLICE], ['create', '--name=a'], ['fly', *SLICE]],
)
def test_wrong_command_lines_show_the_usage(place, arguments):
  place.install()
  assert 'bash launch/tpu_vm.sh run $tpu' in place.call(*arguments, code=2)


@pytest.mark.parametrize(
  ('option', 'message'),
  [
    ('--type=v9-8', '--type=v9-8 is not of v4, v5e, v5p or v6e'),
    ('--sopt', 'No such option: --sopt'),
  ],
)
def test_wrong_options(place, option, message):
  place.install()
  output = place.call('create', *SLICE[:2], option, '--dry-run', code=1)
  assert message in output
