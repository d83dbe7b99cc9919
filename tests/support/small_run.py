"""A whole run that is small enough for a test: sums of two digits' numbers."""

from collections.abc import Mapping
import json
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import train
from experiments.config import command_line
from experiments.run import building, policies, run_directory
from experiments.stages import rl_stage
from score_jax import arrays
from score_jax.checkpoints import checkpointing
from score_jax.io import json_files

ROOT = pathlib.Path(__file__).resolve().parents[2]
TASK = ('--arithmetic.digits=1', '--arithmetic.nines=0')
MODEL = (
  '--model.layers=1',
  '--model.width=32',
  '--model.heads=2',
  '--model.kv-heads=1',
  '--model.head-dim=16',
  '--model.ffw=32',
)
# A base policy that is sometimes right, so that there are rewards to learn
# from. More than 200 steps: pre-training saves at the 200th.
TRAINING = (
  '--pretrain.steps=220',
  '--pretrain.rows=16',
  '--pretrain.learning-rate=1e-2',
  '--max-prompt-tokens=8',
  '--max-attempt-tokens=4',
  '--steps-stage1=4',
  '--steps-stage2=4',
  '--problems-per-step=4',
  '--samples-per-problem=4',
  '--checkpoint-every=2',
  '--log-samples-every=2',
)
# One of the eight devices that tests have.
FLAGS = (*TASK, *MODEL, *TRAINING, '--mesh.fsdp=1')


def main(path: pathlib.Path, *more: str) -> int:
  """The exit code of `python -m experiments.train` with the small flags."""
  return train.main([*FLAGS, f'--run-dir={path}', *more])


def begin_from_base(
  finished: pathlib.Path, path: pathlib.Path, *more: str
) -> pathlib.Path:
  """A run of other settings that has the base policy of a finished one."""
  settings = command_line.parse_settings([*FLAGS, f'--run-dir={path}', *more])
  data = json.loads((finished / 'config.json').read_text())['data']
  path.mkdir()
  run_directory.RunDirectory(path).begin(settings, data)
  shutil.copy(finished / 'tokenizer.model', path)
  shutil.copytree(finished / 'base', path / 'base')
  return path


def copy(finished: pathlib.Path, path: pathlib.Path, *without: str):
  """A copy of a run that lacks some stages, and results."""
  shutil.copytree(finished, path)
  for name in without:
    shutil.rmtree(path / name)
  (path / 'results.json').unlink()
  return path


def copy_to_edit(finished: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
  """A copy of a run without digests: edited by hand, no file is damaged."""
  return shutil.copytree(
    finished, path, ignore=shutil.ignore_patterns('written.json')
  )


def state(path: pathlib.Path, stage: str) -> list[np.ndarray]:
  """Every leaf of the last checkpoint, or of the parameters that are left."""
  run = building.reopen(run_directory.RunDirectory(path))
  params = policies.restore(run, stage, 'latest')
  if stage not in list(run.stages)[-1:]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
  update = rl_stage.make_update(run, run.stages[stage].steps)
  with checkpointing.Checkpoints(
    run.directory.stage(stage).checkpoints, read_only=True
  ) as checkpoints:
    restored = checkpoints.restore(_abstract_state(params, update.optimizer))
  return [np.asarray(leaf) for leaf in jax.tree.leaves(restored.state)]


def _abstract_state(params, optimizer):
  scalar = {
    dtype: jax.ShapeDtypeStruct((), dtype) for dtype in (jnp.int32, jnp.float32)
  }
  return arrays.TrainState(
    step=scalar[jnp.int32],
    params=params,
    opt_state=jax.eval_shape(optimizer.init, params),
    beta2=scalar[jnp.float32],
    skipped=scalar[jnp.int32],
  )


def metrics(path: pathlib.Path, stage: str) -> list[Mapping[str, Any]]:
  """A stage's records, without how long things took."""
  return [
    {name: v for name, v in record.items() if not name.startswith('perf/')}
    for record in json_files.read_lines(path / stage / 'metrics.jsonl')
  ]


def assert_same(
  one: pathlib.Path, other: pathlib.Path, stages=('base', 'stage1', 'stage2')
) -> None:
  """Bit for bit the same states, metrics and samples."""
  for stage in stages:
    pairs = zip(state(one, stage), state(other, stage), strict=True)
    for a, b in pairs:
      np.testing.assert_array_equal(a, b, err_msg=stage)
    assert metrics(one, stage) == metrics(other, stage)
    if stage != 'base':
      assert _text(one, stage) == _text(other, stage)


def outcome(path: pathlib.Path) -> dict[pathlib.Path, Any]:
  """What a run leaves behind, but for times: contents by path.

  A checkpoint's manifest has the digests of all its arrays, which were verified
  when it was written.
  """
  found = {}
  for file in sorted(path.rglob('*')):
    name = file.relative_to(path)
    if file.parts[-2:] == ('manifest', 'metadata') or (
      file.suffix in ('.json', '.jsonl', '.model')
      and file.name not in ('metrics.jsonl', 'written.json')
    ):
      found[name] = file.read_bytes()
    elif file.name == 'metrics.jsonl':
      found[name] = metrics(path, file.parent.name)
  return found


def results(path: pathlib.Path) -> dict[str, Any]:
  """What results.json holds."""
  return json.loads((path / 'results.json').read_text())


def _text(path, stage):
  return (path / stage / 'samples.jsonl').read_text()
