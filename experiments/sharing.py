"""Policies that several runs would make bit for bit alike are made once.

A policy is what its recipe says: settings, data, seed, and the recipes of the
policies that it came from. Methods with the same Stage I, or with samples of
the same policy, therefore share them: checkpoints are linked where the file
system can, everything else is copied.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

import numpy as np

from experiments import methods
from experiments.config import schema
from experiments.run import outcome, policies, run_directory
from score_jax.io import json_files

# No policy depends on these ...
_OF_NO_POLICY = schema.FREE - {
  'checkpoint_every', 'init_from', 'length_buckets', 'micro_batch'
}  # fmt: skip
# ... the phases say these themselves, method by method ...
_IN_PHASES = frozenset(
  {
    'adaptive_beta2',
    'alpha',
    'beta1',
    'beta2',
    'discount',
    'given_attempts_share',
    'method',
    'normalize_bonus',
    'self_refine_instruction',
    'steps_stage1',
    'steps_stage2',
  }
)
# ... and the base policy is older than these. (Not than --reward, by which its
# results are judged.)
_AFTER_BASE = frozenset(
  {
    'checkpoint_every',
    'checkpoint_selection',
    'kl',
    'learning_rate',
    'max_grad_norm',
    'length_buckets',
    'micro_batch',
    'problems_per_step',
    'samples_per_problem',
    'temperature',
  }
)
_CHECKPOINTS = ('checkpoints', 'collected')


def recipes(settings: schema.Settings) -> dict[str, str]:
  """Fingerprint of every policy of a run, by its name, the base's first."""
  common = _common(settings)
  base = {
    name: value
    for name, value in common.items()
    if name not in _AFTER_BASE and not name.startswith(('sft.', 'lora.'))
  }
  made = {methods.BASE: _digest(base)}
  for name, phase in methods.stages(settings).items():
    made[name] = _digest(
      {'name': name, 'common': common, **_phase(settings, phase, made)}
    )
  return made


def collections(settings: schema.Settings) -> dict[str, str]:
  """Fingerprint of what each supervised phase samples from, by its name."""
  common = {
    name: value
    for name, value in _common(settings).items()
    if not name.startswith('sft.')
  }
  made = recipes(settings)
  return {
    name: _digest({'common': common, 'source': made[phase.source]})
    for name, phase in methods.stages(settings).items()
    if isinstance(phase, methods.SFTStage)
  }


def adopt(
  settings: schema.Settings,
  run: run_directory.RunDirectory,
  others: Iterable[run_directory.RunDirectory],
) -> list[str]:
  """Gives a run the finished policies of others that would be its own.

  The run must not be trained at the same time. Its config.json is written, so
  that it is a run even before it makes anything.

  Returns:
    The names of the policies that it was given.
  """
  wanted, adopted = recipes(settings), []
  for other in others:
    there = other.read_settings()
    theirs = recipes(there)
    finished = _finished(there, other)
    for name, recipe in wanted.items():
      if theirs.get(name) != recipe or name not in finished:
        continue
      if run.stage(name).path.exists():
        continue
      if not run.tokenizer.exists():
        _begin(settings, run, other)
      _copy_results(run, other, name)
      _link_tree(other.stage(name).path, run.stage(name).path)
      adopted.append(name)
    _adopt_batches(settings, run, there, other)
  return adopted


def _common(settings) -> dict[str, Any]:
  return {
    name: value
    for name, value in schema.flatten(settings).items()
    if name not in _OF_NO_POLICY | _IN_PHASES
  }


def _phase(settings, phase: methods.Stage, made: Mapping[str, str]) -> dict:
  """What a phase's policy is made of, as JSON can say it."""
  record = {
    field.name: _plain(getattr(phase, field.name))
    for field in dataclasses.fields(phase)
  }
  for field in ('start', 'reference', 'source'):
    if field in record:
      record[field] = made[record[field]]
  if isinstance(phase, methods.PromptStage):
    record['instruction'] = settings.self_refine_instruction
  if isinstance(phase, methods.RLStage) and phase.is_adaptive:
    record['beta2'] = settings.beta2
  return {'kind': type(phase).__name__, **record}


def _plain(value: Any) -> Any:
  if callable(value):
    return value.__name__
  if dataclasses.is_dataclass(value):
    return {
      field.name: np.asarray(getattr(value, field.name)).tolist()
      for field in dataclasses.fields(value)
    }
  return value


def _digest(record: Mapping[str, Any]) -> str:
  text = json.dumps(record, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def _finished(settings, run) -> set[str]:
  """Policies that a run has finished and evaluated."""
  evaluated = set(outcome.read_results(run))
  return evaluated & set(policies.finished_policies(settings, run))


def _begin(settings, run, other) -> None:
  """Makes a run of the same task as another one, tokenizer included."""
  run.path.mkdir(parents=True, exist_ok=True)
  run.begin(settings, other.read_data())
  if other.pretrained.exists():
    shutil.copytree(other.pretrained, run.pretrained, dirs_exist_ok=True)
  # Last: a run that has its tokenizer has everything.
  shutil.copy2(other.tokenizer, run.tokenizer)


def _copy_results(run, other, name: str) -> None:
  results = outcome.read_results(run)
  results[name] = outcome.read_results(other)[name]
  json_files.write_json(run.results, results)


def _adopt_batches(settings, run, there, other) -> None:
  """Links batches of episodes that both runs would sample alike."""
  if not run.tokenizer.exists():
    return
  theirs = collections(there)
  for name, recipe in collections(settings).items():
    target = run.stage(name)
    if target.has_begun():
      continue
    phase = methods.stages(settings)[name]
    for number in range(phase.first_batch, phase.first_batch + phase.steps):
      for their_name in (n for n, r in theirs.items() if r == recipe):
        batch = f'{number:06d}.npz'
        source = other.stage(their_name).collected / batch
        if source.exists() and not (target.collected / batch).exists():
          target.collected.mkdir(parents=True, exist_ok=True)
          _link(source, target.collected / batch)


def _link_tree(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies a directory; what is never written to again is linked."""
  # A killed program leaves nothing under the final name.
  temporary = target.with_name(f'.{target.name}.tmp')
  shutil.rmtree(temporary, ignore_errors=True)
  for path in sorted(source.rglob('*')):
    relative = path.relative_to(source)
    if path.is_dir():
      (temporary / relative).mkdir(parents=True, exist_ok=True)
    else:
      (temporary / relative).parent.mkdir(parents=True, exist_ok=True)
      is_fixed = relative.parts[0] in _CHECKPOINTS
      (_link if is_fixed else shutil.copy2)(path, temporary / relative)
  temporary.replace(target)


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
  try:
    os.link(source, target)
  except OSError:
    # Another file system, or one without links.
    shutil.copy2(source, target)
