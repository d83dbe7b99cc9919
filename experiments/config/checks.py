"""Impossible settings, found before anything is compiled."""

from collections.abc import Callable, Iterable, Iterator
import difflib
import math
import pathlib
from typing import Any

from experiments.config import fields, schema
from score_jax.io import buckets

# Presets of a small model that no checkpoint is of.
_OWN_MODEL = ('tiny', 'aiming')


def find_errors(settings: schema.Settings) -> list[str]:
  """One sentence for each impossible value: the flag, its value, the fix."""
  values = fields.flatten(settings)
  found = [*_ranges(values), *_relations(settings)]
  # The tables of names import jax, and are asked only where all else is
  # possible: misspelt numbers are rejected at once.
  found = found or [*_unknown_names(values)] or [*_stages(settings)]
  return [f'{fields.flag(name)}={values[name]}: {why}' for name, why in found]


def free(
  existing: schema.Settings,
  wanted: schema.Settings,
  has_begun: Callable[[str], bool],
) -> set[str]:
  """Names of the settings with which a run may go on changed.

  Args are those of `may_change_steps`.
  """
  found = set(schema.free())
  if (wanted.init_from is None) != (existing.init_from is None):
    # The same checkpoint may have moved; another base policy is another run.
    found.discard('init_from')
  if existing.rollout.lag:
    # They decide which batches are the newest policy's.
    found -= {'checkpoint_every', 'eval_every'}
  if may_change_steps(existing, wanted, has_begun):
    found |= {'steps_stage1', 'steps_stage2'}
  return found


def may_change_steps(
  existing: schema.Settings,
  wanted: schema.Settings,
  has_begun: Callable[[str], bool],
) -> bool:
  """Whether a run may go on with other --steps-stage1 and --steps-stage2.

  The last stage that has begun may be made longer if it is one of RL, whose
  steps do not depend on how many follow, unless the learning rate falls with
  the stage; stages before it, and supervised ones, whose rounds share the
  batches, must keep their number of steps.

  Args:
    existing: settings that the run was started with.
    wanted: settings to go on with, equal but for the numbers of steps.
    has_begun: tells by a stage's name whether the run has a checkpoint of it.
  """
  from experiments import methods

  before, after = methods.stages(existing), methods.stages(wanted)
  names = list(before | after)
  last = max((i for i, name in enumerate(names) if has_begun(name)), default=-1)
  begun = names[: last + 1]
  is_constant = wanted.optimizer.schedule == 'constant'
  return all(
    name in before
    and name in after
    and (
      before[name].steps == after[name].steps
      or (
        is_constant
        and name == begun[-1]
        and isinstance(before[name], methods.RLStage)
      )
    )
    for name in begun
  )


def known_names(name: str, known: Iterable[str]) -> str:
  """What to say of an unknown name: the closest ones, and which there are."""
  close = difflib.get_close_matches(name, known, cutoff=0.5)
  question = f'did you mean {" or ".join(close)}? ' if close else ''
  return f'{question}there are {", ".join(known)}'


def _ranges(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
  for name, declared in fields.declarations(schema.Settings).items():
    value, above = values[name], declared.get('above')
    low, high = declared.get('low'), declared.get('high')
    if not isinstance(value, int | float) or isinstance(value, bool):
      continue
    if not math.isfinite(value):
      yield name, 'must be a finite number'
    elif high is not None and value > high:
      yield name, f'must be at most {high}'
    elif low is not None and value < low:
      yield name, f'must be at least {low}'
    elif above is not None and value <= above:
      yield name, f'must be more than {above}'


def _relations(settings: schema.Settings) -> Iterator[tuple[str, str]]:
  model = settings.model
  yield from _updates(settings)
  if model.kv_heads > 0 and model.heads % model.kv_heads:
    yield 'model.kv_heads', f'must divide --model.heads={model.heads}'
  if model.head_dim % 2:
    yield 'model.head_dim', 'must be even'
  if settings.mesh.fsdp == 0:
    yield 'mesh.fsdp', 'must be at least 1, or -1 for what is left'
  if settings.tokenizer and settings.init_from is None:
    yield 'tokenizer', 'belongs to a checkpoint; add --init-from=PATH'
  if settings.tokenizer and not pathlib.Path(settings.tokenizer).is_file():
    yield 'tokenizer', 'there is no such file'
  if settings.init_from and settings.preset in _OWN_MODEL:
    yield (
      'init_from',
      f'the preset {settings.preset} is made for its own small model; choose '
      'another one with --preset, or --preset=gemma2_2b_math to begin with',
    )
  elif settings.init_from is not None:
    yield from _checkpoint(settings.init_from)
  if settings.data_dir:
    yield from _place('data_dir', settings.data_dir, 'directory')
  yield from _run_dir(settings.directory)
  if settings.given_attempts_share == 1:
    yield (
      'given_attempts_share',
      'must be less than 1: without attempts of its own the policy learns '
      'nothing about its first turn (the paper: delta falls to 0.2; '
      '--method=offline_first_attempts shows it)',
    )
  if not settings.validation_problems:
    for name in ('eval_every', 'pretrain.until_accuracy'):
      if fields.flatten(settings)[name]:
        yield name, 'needs --validation-problems of at least 1'
  if settings.correct_from_reward is not None and not settings.reward:
    yield 'correct_from_reward', 'needs a --reward'
  if settings.given_attempts_share > 0 and settings.turns < 2:
    yield 'given_attempts_share', 'needs --turns=2 or more'
  if '' in settings.stop:
    yield 'stop', 'an empty text would end every attempt: leave it out'
  yield from _given_share(settings)
  yield from _data(settings)
  unsandboxed = settings.i_understand_model_code_runs_unsandboxed
  if settings.sandbox == 'none' and not unsandboxed:
    yield (
      'sandbox',
      'none runs what the policy wrote with your rights; if that is what you '
      'want, add --i-understand-model-code-runs-unsandboxed',
    )


def _run_dir(place: str) -> Iterator[tuple[str, str]]:
  if buckets.is_url(place):
    yield from _place('run_dir', place, 'directory')
    if place.startswith('s3://'):
      yield (
        'run_dir',
        'Orbax writes checkpoints to gs:// and to disks; choose one of these',
      )


def _place(name: str, place: str, kind: str) -> Iterator[tuple[str, str]]:
  """What is wrong with a directory, file or URL, as this machine can tell."""
  if buckets.is_url(place):
    if why := buckets.reason_against(place):
      yield name, why
    return
  path = pathlib.Path(place)
  if not (path.is_dir() if kind == 'directory' else path.is_file()):
    yield name, f'there is no such {kind}'


def _checkpoint(source: str) -> Iterator[tuple[str, str]]:
  """What is wrong with --init-from, before anything is downloaded."""
  # Imports jax.
  from score_jax.interop import hub

  if source.endswith('.gguf'):
    yield (
      'init_from',
      'make a directory of the file: python -m experiments.convert '
      f'--from={source} --to=DIR',
    )
  elif why := hub.reason_against(source):
    yield 'init_from', why


def _updates(settings: schema.Settings) -> Iterator[tuple[str, str]]:
  """Parts of a step's batch, Adam's numbers, what is left out of the loss."""
  problems, updates = settings.problems_per_step, settings.updates_per_rollout
  parts = settings.rollout.parts
  size, whole = settings.micro_batch, settings.batch_size // max(updates, 1)
  if updates > 0 and problems % updates:
    yield (
      'updates_per_rollout',
      f'must divide --problems-per-step={problems}; '
      f'{_nearest_divisor(problems, updates)} does',
    )
  elif size and 0 < size < whole and whole % size:
    yield (
      'micro_batch',
      f'must divide the {whole} sequences of an update (--problems-per-step '
      'times --samples-per-problem, over --updates-per-rollout); '
      f'{_nearest_divisor(whole, size)} does',
    )
  if parts > 0 and problems % parts:
    yield (
      'rollout.parts',
      f'must divide --problems-per-step={problems}; '
      f'{_nearest_divisor(problems, parts)} does',
    )
  elif parts > 1 and settings.rollout.lag:
    yield (
      'rollout.parts',
      'must be 1 with --rollout.lag=1, which samples the next batch while all '
      'of this one is graded',
    )
  for name in ('adam_b1', 'adam_b2'):
    if getattr(settings.optimizer, name) == 1:
      yield f'optimizer.{name}', 'must be less than 1, or nothing is averaged'
  buffer = settings.overlong_buffer
  if buffer is not None and settings.overlong != 'penalty':
    yield 'overlong_buffer', 'belongs to --overlong=penalty'
  elif buffer is not None and buffer > settings.max_attempt_tokens:
    yield (
      'overlong_buffer',
      f'must be at most --max-attempt-tokens={settings.max_attempt_tokens}',
    )


def _given_share(settings: schema.Settings) -> Iterator[tuple[str, str]]:
  samples = settings.samples_per_problem
  count = settings.given_attempts_share * samples
  # A third cannot be written: a share may miss by a hundredth of an episode.
  if math.isfinite(count) and abs(count - round(count)) > 0.01:
    # All of them are rejected elsewhere.
    nearest = [n for n in (math.floor(count), math.ceil(count)) if n < samples]
    shares = ' or '.join(f'{n / samples:.4g}' for n in nearest)
    yield (
      'given_attempts_share',
      f"is {count:.4g} of a problem's {samples} episodes "
      f'(--samples-per-problem), not a whole number: make it {shares}',
    )


def _data(settings: schema.Settings) -> Iterator[tuple[str, str]]:
  """What a task reads, and what it does not."""
  data, pretrain = settings.data, settings.pretrain
  is_generated = settings.task in schema.GENERATED_TASKS
  reads_files = settings.task in ('records', 'repair')
  makes_problems = is_generated or settings.task == 'word_problems'
  if makes_problems and settings.data_dir is not None:
    yield 'data_dir', f'the {settings.task} task reads no data; leave it out'
  if is_generated and settings.first_prompt is not None:
    yield (
      'first_prompt',
      f'the {settings.task} task asks its problems as they are',
    )
  left = 1 - pretrain.copy_share
  # Decimal shares that add up to 1 may miss it by a rounding.
  if settings.task == 'aiming' and pretrain.redraw_share > left + 1e-9:
    yield (
      'pretrain.redraw_share',
      f'must be at most the {left:g} that --pretrain.copy-share leaves',
    )
  if reads_files and data.file is None:
    yield 'task', 'needs --data.file=FILE with its problems'
  if settings.task == 'records' and data.test_file is None:
    yield 'task', 'needs --data.test-file=FILE with held-out problems'
  for name in ('file', 'test_file'):
    value = getattr(data, name)
    if value is not None and not reads_files:
      yield f'data.{name}', f'--task={settings.task} reads no such file'
    elif value is not None:
      yield from _place(f'data.{name}', value, 'file')
  has_checkpoint = settings.init_from is not None or settings.model.name
  if settings.chat_style == 'gemma' and not has_checkpoint:
    yield 'chat_style', 'gemma needs a checkpoint; add --init-from=PATH'


def _unknown_names(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
  from experiments import methods
  from score_jax.models import gemma, lora
  from score_jax.tasks import registry

  tables = {
    'method': methods.METHODS,
    'task': registry.TASKS,
    'model.name': gemma.CONFIGS,
  }
  for name, known in tables.items():
    if values[name] is not None and values[name] not in known:
      yield name, known_names(values[name], known)
  if values['shots'] and values['task'] not in registry.FEW_SHOT:
    yield 'shots', f'is for --task={" or ".join(registry.FEW_SHOT)}'
  targets = set(values['lora.targets'])
  if not targets or targets - set(lora.TARGETS):
    yield 'lora.targets', f'must be some of {" ".join(lora.TARGETS)}'


def _stages(settings: schema.Settings) -> Iterator[tuple[str, str]]:
  """Errors of the method's stages: turns, steps, and the one asked for."""
  from experiments import methods

  try:
    table = methods.stages(settings)
  except ValueError as error:
    yield 'method', f'{error} (--turns)'
    return
  adaptive = any(getattr(s, 'is_adaptive', False) for s in table.values())
  if adaptive and not settings.beta2:
    yield 'beta2', 'must be more than 0 where it adapts: its bounds follow it'
  supervised = {
    name: stage.steps
    for name, stage in table.items()
    if isinstance(stage, methods.SFTStage)
  }
  # Pairs are made of a first and a second attempt.
  if supervised and settings.turns != 2:
    yield 'method', f'needs --turns=2, not {settings.turns}'
  elif not all(supervised.values()):
    yield (
      'method',
      f'needs a step for each of {", ".join(supervised)}: raise '
      '--steps-stage2, or lower --sft.rounds',
    )
  warmup = settings.optimizer.warmup_steps
  short = [n for n, stage in table.items() if 0 < stage.steps <= warmup]
  if short:
    yield (
      'optimizer.warmup_steps',
      f'must be less than the {table[short[0]].steps} steps of {short[0]}',
    )
  existing = [n for n in ('1', '1a', '1b', '2') if f'stage{n}' in table]
  if settings.stage not in ('all', *existing):
    only = f'only {", ".join(existing)}' if existing else 'none: leave it out'
    yield (
      'stage',
      f'--method={settings.method} with --turns={settings.turns} has {only}',
    )


def _nearest_divisor(rows: int, size: int) -> int:
  divisors = (d for d in range(1, rows + 1) if rows % d == 0)
  return min(divisors, key=lambda d: abs(d - size))
