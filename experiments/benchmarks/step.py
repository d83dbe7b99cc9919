r"""Where the time of a training step goes: rollout, grading, update, the rest.

    python -m experiments.benchmark step
    python -m experiments.benchmark step --train --task=gsm8k --data-dir=DIR \
      --max-prompt-tokens=640 --max-attempt-tokens=64 --problems-per-step=8

Trains for a few steps in a temporary directory and times each step from its
start to the next one's. Flags after `--train` are those of experiments.train.
The reference's forward pass is part of the update's program, but for
--kl=reward. The rest is logging, metrics of texts, checkpoints and choosing
problems; during it and the grading an accelerator is idle, unless it samples
meanwhile (--rollout.lag; with --rollout.parts, that grading counts as rollout).
"""

from collections.abc import Sequence
import dataclasses
import json
import pathlib
import statistics
import sys
import tempfile
import time

from experiments import train
from experiments.config import command_line
from experiments.stages import stage_recorder

_PARTS = ('rollout', 'grade', 'update')
_STAGE = 'stage1'


@dataclasses.dataclass(frozen=True)
class Settings:
  """Measures training steps."""

  steps: int = 12
  """Steps of Stage I; the first two, which compile, and the last do not
  count."""


class _TimedRecorder(stage_recorder.StageRecorder):
  starts: list[float] = []

  def begin_step(self) -> None:
    """Notes the time, too, of steps of Stage I."""
    if self._directory.name == _STAGE:
      self.starts.append(time.perf_counter())
    super().begin_step()


def main(arguments: Sequence[str] | None = None) -> int:
  """Trains, prints shares of a step, returns the exit code."""
  settings, of_train = command_line.parse(
    Settings,
    list(arguments or ()),
    program='experiments.benchmark step',
    document=__doc__,
    return_unknown_args=True,
  )
  steps = settings.steps
  if steps < 4:
    print(f'error: --steps={steps}: 4 at least', file=sys.stderr)
    return 2
  of_train = [argument for argument in of_train if argument != '--train']
  with tempfile.TemporaryDirectory() as folder:
    code = _train(folder, steps, of_train)
    if code:
      return code
    path = pathlib.Path(folder, 'run', _STAGE, 'metrics.jsonl')
    lines = path.read_text().splitlines()
  starts = _TimedRecorder.starts[-steps:]
  rows = []
  for i in range(2, steps - 1):
    record = json.loads(lines[i])
    row = {name: record[f'perf/{name}_seconds'] for name in _PARTS}
    # With --rollout.lag=1: what grading does not hide of the next rollout.
    row['rollout'] += record.get('perf/ahead_seconds', 0.0)
    rows.append(row | {'step': starts[i + 1] - starts[i]})
  _print(rows)
  return 0


def _train(folder, steps, arguments):
  """Runs experiments.train with a recorder that times its steps."""
  original = stage_recorder.StageRecorder
  stage_recorder.StageRecorder = _TimedRecorder
  try:
    return train.main(
      [
        *arguments,
        f'--run-dir={folder}/run',
        f'--steps-stage1={steps}',
        '--steps-stage2=1',
        '--pretrain.steps=2',
        '--eval-problems=8',
      ]
    )
  finally:
    stage_recorder.StageRecorder = original


def _print(rows):
  total = sum(row['step'] for row in rows)
  shares = {p: sum(row[p] for row in rows) / total for p in _PARTS}
  shares['the rest'] = 1 - sum(shares.values())
  typical = statistics.median(row['step'] for row in rows)
  print(f'{len(rows)} steps, median {typical:.2f} s of wall time')
  print('            share of all   median')
  for name, share in shares.items():
    median = statistics.median(
      row.get(name, row['step'] - sum(row[part] for part in _PARTS))
      for row in rows
    )
    print(f'  {name:8} {share:10.1%} {1e3 * median:10.1f} ms')
  outside = shares['grade'] + shares['the rest']
  print(f'outside rollout and update: {outside:.1%}')
