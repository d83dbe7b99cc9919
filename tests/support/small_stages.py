"""Two stages whose updates are arithmetic: all files of a run, and no model.

What happens to files is the real thing: run directory, stage loop, recorder,
checkpoints, evaluation, results. Only steps and attempts are made up.
"""

import io
import os
import pathlib
import types as python_types

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich import console as rich_console

from experiments.config import command_line
from experiments.run import outcome, run_directory, transcripts
from experiments.stages import stage_loop, stage_recorder
from score_jax import arrays, types
from score_jax.evaluation import evaluate
from score_jax.io import stop_signals
from tests.support import file_operations, small_run

# Steps by stage. Of the first one's checkpoints, at 2, 4 and 6, the second is
# best: the first is removed.
STAGES = {'stage1': 6, 'stage2': 2}
_SCORES = (0.0, 0.5, 1.0, 1.0, 0.25, 0.0)
_PROBLEMS = [types.Problem(name, 'sums', name, '2') for name in ('1+1', '0+2')]


def main(
  path: pathlib.Path,
  devices: int,
  at: int | None,
  listed: pathlib.Path,
  said: pathlib.Path,
) -> None:
  """Makes the run in `path`, or goes on with it; to be called in a child.

  Args:
    path: of the run.
    devices: that arrays are split over.
    at: number of the file operation to die before; None: of none.
    listed: file that the operations are written to, if it comes to its end.
    said: file that takes the place of stderr.
  """
  descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
  os.dup2(descriptor, 2)
  operations = file_operations.watch(path, at)
  outcome.evaluate_policy = _evaluate
  settings = command_line.parse_settings(
    [*small_run.FLAGS, f'--run-dir={path}']
  )
  directory = run_directory.RunDirectory(path)
  run = python_types.SimpleNamespace(
    settings=settings,
    directory=directory,
    stages=dict.fromkeys(STAGES),
    task=python_types.SimpleNamespace(test=_PROBLEMS, validation=()),
    console=rich_console.Console(file=io.StringIO()),
    stop=stop_signals.StopRequest(),
  )
  with directory.lock():
    directory.begin(settings, {'train': 'a', 'test': 'b'})
    params = {'w': _split(np.arange(64.0, dtype=np.float32), devices)}
    for name, steps in STAGES.items():
      if not directory.stage(name).is_finished(steps):
        outcome.forget(run, name)
      state = arrays.TrainState(
        step=jnp.int32(0),
        params=params,
        opt_state=optax.EmptyState(),
        beta2=jnp.float32(0.1),
        skipped=jnp.int32(0),
      )
      params = stage_loop.train(run, name, steps, state, _step)
      outcome.evaluate_once(run, name, params)
  listed.write_text('\n'.join(operations()))


def _split(value, devices):
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ('data',))
  return jax.device_put(value, jax.NamedSharding(mesh, jax.P('data')))


def _step(state, policy, number, recorder):
  del recorder
  score = _SCORES[number]
  state = state.replace(
    step=state.step + 1,
    # In host memory: nothing to compile.
    params={
      'w': jax.device_put(
        np.asarray(policy['w']) * np.float32(0.5) + np.float32(number),
        policy['w'].sharding,
      )
    },
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
  score = float(np.asarray(policy['w'])[0] % 2)
  parts = [
    (each.problem, each.attempts, each.verdicts) for each in _episodes(score)
  ]
  return evaluate.Evaluation(*map(list, zip(*parts)))
