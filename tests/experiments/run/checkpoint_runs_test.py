"""From a checkpoint to a better one: every preset, scaled down, end to end.

The code path is the real one: a Hugging Face checkpoint of the preset's
generation with small widths and a real tokenizer is imported, trained for two
updates a stage, and exported. Sizes that matter only at full scale are lowered
in tests/real_shapes_test.py and tests/tpu_programs_test.py.
"""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import convert, evaluate, train
from experiments.config import command_line
from experiments.run import building, policies, run_directory
from score_jax.interop import checkpoint_formats, hugging_face_export
from score_jax.models import gemma, lora, tokenization, transformer
from tests.support import shared_data

pytestmark = pytest.mark.usefixtures('quick_compilation')
PRESETS = [
  name for name in command_line.preset_names() if name not in ('tiny', 'aiming')
]
_PIECES = 1200
SMALL = (
  '--model.name=None',
  '--mesh.fsdp=1',
  '--mesh.rollout-tensor=None',
  '--problems-per-step=2',
  '--samples-per-problem=4',
  '--micro-batch=4',
  '--max-attempt-tokens=5',
  '--steps-stage1=2',
  '--steps-stage2=2',
  '--eval-every=0',
  '--eval-problems=2',
  '--learning-rate=1e-3',
  '--workers=1',
)


def shrink(config, vocab_size):
  """The same architecture: every kind of layer, and one left over."""
  kinds = tuple(sorted(set(config.layer_pattern), reverse=True))
  return dataclasses.replace(
    config,
    vocab_size=vocab_size,
    width=32,
    num_layers=len(kinds) + 1,
    layer_pattern=kinds,
    num_heads=4,
    num_kv_heads=max(1, 4 * config.num_kv_heads // config.num_heads),
    head_dim=8,
    mlp_width=48,
    window=config.window and 16,
    query_scale=12**-0.5,
  )


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  """A small tokenizer with Gemma's turn tokens, trained on questions."""
  path = shared_data.path('gsm8k') / 'train.jsonl'
  lines = path.read_text().splitlines()[:400]
  texts = [text for line in lines for text in json.loads(line).values()]
  model = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.model'
  tokenization.train(
    [line for text in texts for line in text.splitlines()],
    model,
    _PIECES,
    reserved=[tokenization.START_OF_TURN, tokenization.END_OF_TURN],
  )
  return tokenization.Tokenizer(model)


def write_checkpoint(path, preset, tokenizer, style='gemma'):
  """A random checkpoint of the preset's generation; its configuration."""
  settings, _ = command_line.load_preset(preset)
  config = shrink(gemma.CONFIGS[settings.model.name], tokenizer.vocab_size)
  params = transformer.init_params(config, jax.random.key(3))
  hugging_face_export.export(
    path,
    config,
    params,
    tokenizer_path=tokenizer.path,
    chat_style=style,
    padded_vocab=config.vocab_size + 24,
    dtype=np.float32,
  )
  return config


def write_data(path, task):
  """A task's shortest problems: few lengths, few programs to compile."""
  folder = path / task
  folder.mkdir(parents=True, exist_ok=True)
  for source in shared_data.path(task).glob('*.jsonl'):
    lines = source.read_text().splitlines(keepends=True)
    kept = lines if task == 'mbpp' else sorted(lines, key=len)[:40]
    (folder / source.name).write_text(''.join(kept))
  return path


def write_reward(path):
  """A reward that random attempts differ in, so that there is a gradient."""
  file = path / 'parity.py'
  file.write_text('def reward(attempt):\n  return sum(map(ord, attempt)) % 2\n')
  return f'{file}:reward'


def command(preset, checkpoint, path, *more):
  settings, _ = command_line.load_preset(preset)
  rank = [f'--lora.rank={min(4, settings.lora.rank)}']
  data = write_data(path.parent / 'data', settings.task)
  return [
    f'--preset={preset}',
    f'--init-from={checkpoint}',
    f'--run-dir={path}',
    f'--data-dir={data}',
    # MBPP's prompt shows three examples.
    f'--max-prompt-tokens={1200 if settings.task == "mbpp" else 400}',
    f'--reward={write_reward(path.parent)}',
    # No attempt of so small a model is right: the task's grader rests.
    '--correct-from-reward=1',
    *SMALL,
    *rank,
    *more,
  ]


@pytest.mark.slow  # a minute each
@pytest.mark.parametrize('preset', PRESETS)
def test_a_preset_from_checkpoint_to_checkpoint(
  preset, tokenizer, tmp_path, capsys
):
  config = write_checkpoint(tmp_path / 'in', preset, tokenizer)
  path = tmp_path / 'run'
  assert train.main(command(preset, tmp_path / 'in', path)) == 0
  said = capsys.readouterr().out
  assert 'Stage II (SCoRe)' in said

  run = building.reopen(run_directory.RunDirectory(path))
  assert run.config == config
  assert run.sampler.chat_format.style == 'gemma'
  base, first, second = (
    policies.stage_policy(run, name) for name in ('base', 'stage1', 'stage2')
  )
  # The base is the checkpoint, bit for bit, and each stage moved.
  dtype = jax.tree.leaves(base)[0].dtype
  loaded = checkpoint_formats.load(tmp_path / 'in', config, dtype=dtype)
  assert same(base, loaded)
  merged = [lora.merge(policy) for policy in (base, first, second)]
  assert not same(merged[0], merged[1])
  assert not same(merged[1], merged[2])
  if run.settings.lora.rank:
    assert same(lora.base_of(second), loaded)

  # Out again, with adapters merged, from a base that lies elsewhere now.
  (tmp_path / 'in').rename(tmp_path / 'moved')
  flags_out = (f'--from={path}', f'--to={tmp_path / "out"}', '--dtype=float32')
  moved = f'--init-from={tmp_path / "moved"}'
  assert convert.main([*flags_out, moved, '--verify']) == 0
  assert same(checkpoint_formats.load(tmp_path / 'out', config), merged[2])
  description = json.loads((tmp_path / 'out' / 'config.json').read_text())
  assert description['vocab_size'] == config.vocab_size + 24


def same(one, other):
  pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  return all(np.array_equal(a, b) for a, b in pairs)


PRESET = 'gemma3_270m_gsm8k_colab'


@pytest.mark.slow  # a minute
def test_resumed_from_a_checkpoint_that_moved(tokenizer, tmp_path, capsys):
  write_checkpoint(tmp_path / 'in', PRESET, tokenizer)
  path = tmp_path / 'run'
  assert train.main(command(PRESET, tmp_path / 'in', path, '--stage=1')) == 0
  (tmp_path / 'in').rename(tmp_path / 'moved')
  capsys.readouterr()
  # Without it, the base policy would be another one.
  without = [
    a for a in command(PRESET, '', path) if not a.startswith('--init-from')
  ]
  assert train.main(without) == 2
  assert '--init-from' in capsys.readouterr().err
  # Another checkpoint is refused.
  settings, _ = command_line.load_preset(PRESET)
  config = shrink(gemma.CONFIGS[settings.model.name], tokenizer.vocab_size)
  hugging_face_export.export(
    tmp_path / 'other',
    config,
    transformer.init_params(config, jax.random.key(4)),
    tokenizer_path=tokenizer.path,
    chat_style='gemma',
    dtype=np.float32,
  )
  assert train.main(command(PRESET, tmp_path / 'other', path)) == 2
  assert 'is another checkpoint than' in capsys.readouterr().err
  # The same one in another place is not.
  assert train.main(command(PRESET, tmp_path / 'moved', path)) == 0


@pytest.mark.slow
def test_a_base_model_is_spoken_to_in_lines(tokenizer, tmp_path):
  write_checkpoint(tmp_path / 'in', PRESET, tokenizer, style='plain')
  arguments = command(PRESET, tmp_path / 'in', tmp_path / 'run')
  assert train.main([*arguments, '--method=base']) == 0
  run = building.reopen(run_directory.RunDirectory(tmp_path / 'run'))
  assert run.sampler.chat_format.style == 'plain'
  assert run.sampler.chat_format.stop_ids == (1,)


def test_evaluation_of_a_checkpoint_as_it_is(tokenizer, tmp_path, capsys):
  write_checkpoint(tmp_path / 'in', PRESET, tokenizer)
  arguments = [
    f'--init-from={tmp_path / "in"}',
    '--task=gsm8k',
    f'--data-dir={write_data(tmp_path / "data", "gsm8k")}',
    f'--run-dir={tmp_path / "run"}',
    '--max-attempt-tokens=4',
    '--max-prompt-tokens=400',
    '--eval-problems=3',
    '--mesh.fsdp=1',
  ]
  assert evaluate.main([*arguments, '--batch-size=1', '--show=2']) == 0
  said = capsys.readouterr().out
  assert 'Base' in said
  # Two of the three were shown, and how far it was; random text is no answer.
  assert said.count('attempt 2') == 2
  assert 'base: 2 of 3 problems' in said
  assert 'no answer can be read in any attempt' in said
  results = json.loads((tmp_path / 'run' / 'results.json').read_text())
  assert results['base']['problems'] == 3
  attempts = tmp_path / 'run' / 'base' / 'evaluation.jsonl'
  written = attempts.read_text()
  rows = [json.loads(line) for line in written.splitlines()]
  assert [row['labels'] for row in rows] == [['unparseable'] * 2] * 3
  assert all(len(row['attempts']) == 2 and row['question'] for row in rows)
  # Once more, and another way, from the same directory.
  assert evaluate.main([*arguments, '--attempts=3']) == 0
  capsys.readouterr()
  kept = tmp_path / 'run' / 'evaluations' / 'attempts-3_base.jsonl'
  rows = [json.loads(line) for line in kept.read_text().splitlines()]
  assert [len(row['attempts']) for row in rows] == [3, 3, 3]
  assert evaluate.main(arguments) == 0
  assert 'the same numbers as' in capsys.readouterr().out
  assert attempts.read_text() == written


def exit_code(arguments):
  """Of the program, whether it returns it or leaves with it."""
  try:
    return train.main(arguments)
  except SystemExit as error:
    return error.code


@pytest.mark.parametrize(
  ('more', 'message'),
  [
    (('--model.name=gemma-2-2b',), 'describes another model'),
    (('--model.name=gemma-9',), 'there are gemma-1-2b'),
    (('--tokenizer=/nowhere',), 'there is no such file'),
    (('--lora.rank=4', '--lora.targets', 'query'), 'must be some of q k v o'),
    (('--problems-per-step=3', '--mesh.fsdp=2'), 'must be a multiple of 2'),
    (
      ('--problems-per-step=6', '--rollout.parts=2', '--mesh.fsdp=2'),
      '--problems-per-step=6 over --rollout.parts=2 must be a multiple of 2',
    ),
    (('--mesh.tensor=3', '--mesh.fsdp=-1'), '--mesh.tensor=3'),
    (('--lora.rank=99',), 'choose at most'),
  ],
)
def test_rejected(tokenizer, tmp_path, capsys, more, message):
  write_checkpoint(tmp_path / 'in', PRESET, tokenizer)
  arguments = command(PRESET, tmp_path / 'in', tmp_path / 'run', *more)
  assert exit_code(arguments) == 2
  assert message in capsys.readouterr().err


def test_a_checkpoint_needs_a_preset_of_its_own(tmp_path, capsys):
  with pytest.raises(SystemExit):
    train.main([f'--init-from={tmp_path}'])
  assert 'choose another one with --preset' in capsys.readouterr().err


def test_a_published_model_needs_its_checkpoint(tmp_path, capsys):
  arguments = ['--preset=gemma2_2b_math', f'--run-dir={tmp_path / "run"}']
  assert train.main(arguments) == 2
  assert 'pass its checkpoint with --init-from' in capsys.readouterr().err
