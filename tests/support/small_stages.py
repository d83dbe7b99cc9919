"""Two stages whose updates are arithmetic: all files of a run, and no model.

What happens to files is the real thing: main, run directory, stage loop,
recorder, checkpoints, evaluation, results. Only steps and attempts are made up.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil
import sys
import types as python_types
from typing import Any, NoReturn

import jax
import numpy as np
import optax

from experiments import train
from experiments.config import command_line, groups, schema
from experiments.reporting import final_report
from experiments.run import building, outcome, transcripts
from experiments.stages import stage_loop, stage_recorder
from score_jax import arrays, distributed, heartbeat, types
from score_jax.evaluation import evaluate
from tests.support import file_operations, process_group, small_run

# Steps by stage. Of the first checkpoints, at 2 and 4, the second is best: the
# first is removed, and of the second only the parameters stay.
STAGES = {'stage1': 4, 'stage2': 2}
_SCORES = (0.0, 0.5, 1.0, 1.0)
_PROBLEMS = [types.Problem(name, 'sums', name, '2') for name in ('1+1', '0+2')]


@dataclasses.dataclass(frozen=True)
class _Child:
  """What a child is told.

  Attributes:
    settings: of the run; to read flags takes as long as all else.
    devices: number of devices that arrays are split over.
    listed: file that its file operations are written to, unless it is killed.
    said: file that takes the place of stdout and stderr.
    at: number of the file operation that a fault comes before; None: of none.
    fault: what happens then.
    index: of several processes.
    address: of the first of several processes.
  """

  settings: schema.Settings
  devices: int
  listed: pathlib.Path
  said: pathlib.Path
  at: int | None = None
  fault: Callable[[], None] = file_operations.kill
  index: int = 0
  address: str = ''


class Runs:
  """Runs in one place, one after the other: paths are part of their bytes."""

  def __init__(
    self,
    folder: pathlib.Path,
    devices: int = 1,
    place: pathlib.Path | None = None,
    processes: int = 1,
  ):
    """Nothing is run.

    Args:
      folder: where files may be written.
      devices: that arrays are split over.
      place: directory of the run, where it is not in the folder.
      processes: number of processes.
    """
    self.path = (place or folder) / 'run'
    # One for all runs, since it is a setting and among their bytes.
    self._address = process_group.free_address() if processes > 1 else ''
    settings = command_line.parse_settings(
      [*small_run.FLAGS, f'--run-dir={self.path}']
    )
    self._children = [
      _Child(
        settings, devices, folder / f'listed{i}', folder / f'said{i}', index=i
      )
      for i in range(processes)
    ]

  def said(self, index: int = 0) -> str:
    """What a process of the last run said."""
    return self._children[index].said.read_text()

  def operations(self, index: int = 0) -> list[str]:
    """The file operations of the last run that was not killed."""
    return self._children[index].listed.read_text().splitlines()

  def go(
    self,
    at: int | None = None,
    fault: Callable[[], None] = file_operations.kill,
    index: int = 0,
  ) -> list[int]:
    """Starts the run or goes on with it; the exit code of each process."""
    started = []
    for child in self._children:
      told = dataclasses.replace(child, address=self._address)
      if child.index == index:
        told = dataclasses.replace(told, at=at, fault=fault)
      started.append(file_operations.start(_main, told))
    return [file_operations.finish(child) for child in started]

  def begin_again(self, begun: pathlib.Path | None = None) -> None:
    """Removes the run; what was begun may take its place."""
    shutil.rmtree(self.path, ignore_errors=True)
    if begun is not None:
      shutil.copytree(begun, self.path)

  def go_to_the_end(self) -> list[str]:
    """Goes on from the newest checkpoints; the operations that this took."""
    newest = self._newest()
    codes = self.go()
    said = ''.join(self.said(child.index) for child in self._children)
    assert not any(codes), said
    for name, step in newest.items():
      if 0 < step < STAGES[name]:
        assert f'{name}: going on after step {step} of' in said
    assert 'damaged' not in said
    assert 'Traceback' not in said
    return self.operations()

  def _newest(self) -> dict[str, int]:
    """The newest checkpoint of each stage that is not finished."""
    return {
      name: max(
        (int(p.name) for p in path.glob('checkpoints/*') if p.name.isdigit()),
        default=0,
      )
      for name in STAGES
      if not ((path := self.path / name) / 'finished.json').exists()
    }

  def checkpoints(self) -> list[str]:
    """Names of the checkpoints, and of whatever lies beside them."""
    folders = self.path.glob('*/checkpoints/*')
    return sorted(str(path.relative_to(self.path)) for path in folders)

  def outcome(self) -> dict[pathlib.Path, Any]:
    """Contents by path of what is left behind, but for times."""
    return small_run.outcome(self.path)


def _main(told: _Child) -> NoReturn:
  """Makes the run, or goes on with it."""
  descriptor = os.open(told.said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
  for output in (1, 2):
    os.dup2(descriptor, output)
  operations = file_operations.watch(
    told.settings.directory, told.at, told.fault
  )
  settings = told.settings
  if told.address:
    joined = groups.Processes(told.address, count=2, index=told.index)
    settings = dataclasses.replace(settings, processes=joined)
    heartbeat.LOST_SECONDS = 3
    heartbeat._LINGER_SECONDS, heartbeat._FIRST_LINGERS_SECONDS = 1, 2
  command_line.parse_settings = lambda _: settings
  outcome.evaluate_policy = _evaluate
  building.start = functools.partial(_start, told.devices)
  train.train = _train
  final_report.report = lambda run: None
  try:
    code = train.main()
  except Exception:
    # As at the end of a program; a child of multiprocessing has its own way.
    sys.excepthook(*sys.exc_info())
    sys.exit(1)
  told.listed.write_text('\n'.join(operations()))
  sys.exit(code)


def _start(devices, settings, directory, console, stop):
  directory.begin(settings, {'train': 'a', 'test': 'b'})
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ('data',))
  split = jax.NamedSharding(mesh, jax.P('data'))
  return python_types.SimpleNamespace(
    settings=settings,
    directory=directory,
    layout=python_types.SimpleNamespace(
      trained={'w': split},
      trained_shapes={'w': jax.ShapeDtypeStruct((64,), np.float32)},
      whole=jax.NamedSharding(mesh, jax.P()),
    ),
    stages=dict.fromkeys(STAGES),
    task=python_types.SimpleNamespace(test=_PROBLEMS, validation=()),
    console=console,
    stop=stop,
  )


def _train(run):
  # As `guards.ready_to_train` ends a run that was asked to stop.
  with contextlib.suppress(types.StoppedError):
    _train_stages(run)


def _train_stages(run):
  split, whole = run.layout.trained['w'], run.layout.whole
  params = {'w': distributed.put(np.arange(64, dtype=np.float32), split)}
  for name, steps in STAGES.items():
    if not run.directory.stage(name).is_finished(steps):
      outcome.forget(run, name)
    state = arrays.TrainState(
      step=distributed.put(np.int32(0), whole),
      params=params,
      opt_state=optax.EmptyState(),
      beta2=distributed.put(np.float32(0.1), whole),
      skipped=distributed.put(np.int32(0), whole),
    )
    params = stage_loop.train(run, name, steps, state, _step)
    outcome.evaluate_once(run, name, params)


def _step(state, policy, number, recorder):
  del recorder
  score = _SCORES[number]
  # In host memory: nothing to compile.
  new = distributed.to_host(policy['w']) * np.float32(0.5) + np.float32(number)
  state = state.replace(
    step=distributed.put(np.int32(number + 1), state.step.sharding),
    params={'w': distributed.put(new, policy['w'].sharding)},
  )
  sequences = arrays.Trajectory(
    tokens=None,
    turn=np.ones((2, 4), np.int32),
    sampled=None,
    logprobs=None,
    length=None,
    finished=None,
    problem_index=None,
  )
  return state, stage_recorder.StepReport(
    sequences,
    {'loss': (np.float32(number), np.float32(2.0))},
    {stage_recorder.SELECTION: score, 'score/acc_t1': score},
    _episodes(score),
  )


def _episodes(score):
  label = 'correct' if score >= 0.5 else 'wrong'
  return [
    transcripts.Episode(
      problem,
      [types.Attempt(f'{score:g}', turn) for turn in (1, 2)],
      [types.Verdict(label, float(score >= 0.5))] * 2,
    )
    for problem in _PROBLEMS
  ]


def _evaluate(run, policy):
  del run
  score = float(distributed.to_host(policy['w'])[0] % 2)
  parts = [
    (each.problem, each.attempts, each.verdicts) for each in _episodes(score)
  ]
  return evaluate.Evaluation(*map(list, zip(*parts)))
