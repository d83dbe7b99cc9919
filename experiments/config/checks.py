"""Impossible settings, found before anything is compiled."""

from collections.abc import Iterator
import math
import pathlib

from experiments.config import schema

MAX_TURNS = 3
# Pairs are made of a first and a second attempt.
_OF_TWO_TURNS = (
  'star', 'star_plus', 'pair_sft', 'pair_sft_plus', 'star_stage2'
)  # fmt: skip
_OF_ANY_TURNS = ('base', 'single_turn')
_WITHOUT_STAGES = (
  'base', 'self_refine', 'star', 'star_plus', 'pair_sft', 'pair_sft_plus',
  'single_turn', 'multi_turn_fig5', 'multi_turn', 'grpo', 'interleaved',
)  # fmt: skip
# Named again here, because this module imports no jax; a test compares.
MODELS = (
  'gemma-1-2b',
  'gemma-1-7b',
  'gemma-2-2b',
  'gemma-2-9b',
  'gemma-2-27b',
  'gemma-3-270m',
  'gemma-3-1b',
  'gemma-3-4b',
  'gemma-3-12b',
  'gemma-3-27b',
)
# By the number of turns.
_STAGES = {2: ('1', '2'), 3: ('1a', '1b', '2')}
LORA_TARGETS = ('q', 'k', 'v', 'o', 'gate', 'up', 'down')


def find_errors(settings: schema.Settings) -> list[str]:
  """One sentence for each impossible value: the flag, its value, the mend."""
  values = schema.flatten(settings)
  return [
    f'{schema.flag(name)}={values[name]}: {why}'
    for name, why in (
      *_ranges(values),
      *_relations(settings),
    )
  ]


# Field -> lowest value, highest value, whether the lowest itself is refused.
_INF = math.inf
_RANGES = {
  'seed': (0, 2**31 - 1, False),
  'turns': (1, MAX_TURNS, False),
  'max_prompt_tokens': (1, _INF, False),
  'max_attempt_tokens': (1, _INF, False),
  'temperature': (0, _INF, True),
  'given_attempts_share': (0, 1, False),
  'steps_stage1': (0, _INF, False),
  'steps_stage2': (0, _INF, False),
  'problems_per_step': (1, _INF, False),
  'samples_per_problem': (2, _INF, False),
  'micro_batch': (1, _INF, False),
  'length_buckets': (1, 16, False),
  'learning_rate': (0, _INF, True),
  'max_grad_norm': (0, _INF, True),
  'alpha': (0, _INF, False),
  'beta1': (0, _INF, False),
  'beta2': (0, _INF, False),
  'discount': (0, 1, False),
  'checkpoint_every': (1, _INF, False),
  'log_samples_every': (0, _INF, False),
  'eval_every': (0, _INF, False),
  'eval_problems': (1, _INF, False),
  'model.layers': (1, _INF, False),
  'model.width': (1, _INF, False),
  'model.heads': (1, _INF, False),
  'model.kv_heads': (1, _INF, False),
  'model.head_dim': (2, _INF, False),
  'model.ffw': (1, _INF, False),
  'model.rope_base': (1, _INF, True),
  'lora.rank': (0, _INF, False),
  'lora.alpha': (0, _INF, True),
  'mesh.data': (1, _INF, False),
  'mesh.fsdp': (-1, _INF, False),
  'mesh.tensor': (1, _INF, False),
  'processes.count': (1, _INF, False),
  'processes.index': (0, _INF, False),
  'mesh.rollout_tensor': (1, _INF, False),
  'pretrain.steps': (0, _INF, False),
  'pretrain.rows': (1, _INF, False),
  'pretrain.learning_rate': (0, _INF, True),
  'pretrain.copy_share': (0, 1, False),
  'sft.rounds': (1, _INF, False),
  'sft.epochs': (0, _INF, True),
  'sft.most_per_problem': (1, _INF, False),
  'sft.right_share': (0, 1, False),
  'sft.learning_rate': (0, _INF, True),
  'arithmetic.digits': (1, 18, False),
  'arithmetic.nines': (0, 1, False),
  'pretrain.easy_nines': (0, 1, False),
  'pretrain.easy_right': (0, 1, False),
}


def _ranges(values: dict) -> Iterator[tuple[str, str]]:
  for name, (low, high, is_open) in _RANGES.items():
    value = values[name]
    if value is None:
      continue
    if not math.isfinite(value):
      yield name, 'must be a finite number'
    elif value > high:
      yield name, f'must be at most {high}'
    elif value < low or (is_open and value == low):
      yield name, f'must be {"more than" if is_open else "at least"} {low}'


def _relations(settings: schema.Settings) -> Iterator[tuple[str, str]]:
  model, size = settings.model, settings.micro_batch
  if size and 0 < size < settings.batch_size and settings.batch_size % size:
    yield (
      'micro_batch',
      f'must divide the {settings.batch_size} rows of an update '
      f'(--problems-per-step times --samples-per-problem); '
      f'{_nearest_divisor(settings.batch_size, size)} does',
    )
  if model.kv_heads > 0 and model.heads % model.kv_heads:
    yield 'model.kv_heads', f'must divide --model.heads={model.heads}'
  if model.head_dim % 2:
    yield 'model.head_dim', 'must be even'
  if model.name is not None and model.name not in MODELS:
    yield 'model.name', f'there are {", ".join(MODELS)}'
  unknown = sorted(set(settings.lora.targets) - set(LORA_TARGETS))
  if unknown or not settings.lora.targets:
    yield 'lora.targets', f'must be some of {" ".join(LORA_TARGETS)}'
  if settings.mesh.fsdp == 0:
    yield 'mesh.fsdp', 'must be at least 1, or -1 for what is left'
  if settings.tokenizer and settings.init_from is None:
    yield 'tokenizer', 'belongs to a checkpoint; add --init-from=PATH'
  if settings.tokenizer and not pathlib.Path(settings.tokenizer).is_file():
    yield 'tokenizer', 'there is no such file'
  if settings.init_from and settings.preset == 'tiny':
    yield (
      'init_from',
      'the preset tiny is made for its own small model; choose another one '
      'with --preset, or --preset=gemma2_2b_math to begin with',
    )
  if settings.init_from and not pathlib.Path(settings.init_from).is_dir():
    yield 'init_from', 'there is no such directory'
  if settings.given_attempts_share == 1:
    yield (
      'given_attempts_share',
      'must be less than 1: without attempts of its own the policy learns '
      'nothing about its first turn (the paper: delta falls to 0.2; '
      '--method=offline_first_attempts shows it)',
    )
  if settings.given_attempts_share > 0 and settings.turns < 2:
    yield 'given_attempts_share', 'needs --turns=2 or more'
  if settings.method in _OF_TWO_TURNS and settings.turns != 2:
    yield 'method', f'needs --turns=2, not {settings.turns}'
  if settings.method not in _OF_ANY_TURNS and settings.turns < 2:
    yield 'method', 'needs --turns=2 or more'
  if settings.method in _OF_TWO_TURNS:
    yield from _samples_to_imitate(settings)
  if settings.stage != 'all' and settings.method in _WITHOUT_STAGES:
    yield 'stage', f'--method={settings.method} has no such stage: leave it out'
  elif settings.stage not in ('all', *_STAGES.get(settings.turns, '')):
    there = ', '.join(_STAGES.get(settings.turns, ()))
    yield 'stage', f'--turns={settings.turns} has only {there or "all"}'
  if settings.task == 'arithmetic' and settings.data_dir is not None:
    yield 'data_dir', 'the arithmetic task reads no data; leave it out'
  if settings.task in ('records', 'repair') and settings.data.file is None:
    yield 'task', 'needs --data.file=FILE with its problems'
  unsandboxed = settings.i_understand_model_code_runs_unsandboxed
  if settings.sandbox == 'none' and not unsandboxed:
    yield (
      'sandbox',
      'none runs what the policy wrote with your rights; if that is what you '
      'want, add --i-understand-model-code-runs-unsandboxed',
    )
  if settings.data_dir and not pathlib.Path(settings.data_dir).is_dir():
    yield 'data_dir', 'there is no such directory'


def _samples_to_imitate(settings) -> Iterator[tuple[str, str]]:
  """Each round of a supervised method samples a step's batch at least."""
  paired = settings.method in ('pair_sft', 'pair_sft_plus')
  rounds = 1 if paired else settings.sft.rounds
  steps, together = settings.steps_stage2, ''
  if settings.method != 'star_stage2':
    steps += settings.steps_stage1
    together = ' together with --steps-stage1'
  if 0 <= steps < rounds:
    yield (
      'steps_stage2',
      f'must be at least {rounds}{together}: --method={settings.method} '
      'samples and imitates that often (--sft.rounds)',
    )


def _nearest_divisor(rows: int, size: int) -> int:
  divisors = (d for d in range(1, rows + 1) if rows % d == 0)
  return min(divisors, key=lambda d: abs(d - size))
