"""`python -m experiments.convert`: from every source, and every refusal."""

import json
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import convert
from experiments.run import policies, run_directory
from score_jax.interop import checkpoint_formats, export_check
from score_jax.models import chat, tokenization
from tests.support import exports, gm_checkpoints

# torch, where it is installed, brings some.
pytestmark = pytest.mark.filterwarnings(
  'ignore::DeprecationWarning', 'ignore::FutureWarning'
)


@pytest.fixture(scope='module')
def model():
  """A small Gemma 3 with its tokenizer."""
  return exports.make('gemma3')


def _run(*flags):
  return convert.main([str(flag) for flag in flags])


def test_from_a_run(finished, tmp_path, capsys):
  """The last policy by default, or the one that is asked for."""
  flags = (f'--from={finished}', '--dtype=float32', '--verify')
  assert _run(*flags, f'--to={tmp_path / "last"}') == 0
  shown = capsys.readouterr().out
  assert f'policy stage2 of run {finished}' in ' '.join(shown.split())
  assert 'to the bit' in shown
  assert 'vllm serve' in shown
  assert 'plain_template.jinja' in shown
  assert _run(*flags, f'--to={tmp_path / "base"}', '--policy=base') == 0
  run = run_directory.RunDirectory(finished)
  options = convert.Options(str(finished), '', policy='base')
  source = convert.read_run(run, options)
  chex.assert_trees_all_equal(
    checkpoint_formats.load(tmp_path / 'base', source.config), source.params
  )
  last = checkpoint_formats.load(tmp_path / 'last', source.config)
  assert not np.array_equal(last['embedding'], source.params['embedding'])
  assert policies.finished_policies(run)[-1] == 'stage2'
  copy = tmp_path / 'last' / 'tokenizer.model'
  assert copy.read_bytes() == run.tokenizer.read_bytes()


def test_from_hugging_face(model, tmp_path, capsys):
  """Padding is kept, the template says that it is tuned."""
  rows = model.config.vocab_size + 5
  source = model.export(tmp_path / 'f32', padded_vocab=rows)
  target = tmp_path / 'bf16'
  assert _run(f'--from={source}', f'--to={target}', '--verify') == 0
  assert 'Hugging Face checkpoint' in capsys.readouterr().out
  config = json.loads((target / 'config.json').read_text())
  assert config['vocab_size'] == rows
  assert config['eos_token_id'] == [1, 106]
  rounded = jax.tree.map(lambda p: p.astype(jnp.bfloat16), model.params)
  chex.assert_trees_all_equal(
    checkpoint_formats.load(target, model.config, dtype=jnp.bfloat16), rounded
  )
  # What the licence wants handed on is; nothing else is.
  (source / 'LICENSE').write_text('terms')
  (source / 'other.md').write_text('x')
  again = tmp_path / 'with_licence'
  assert _run(f'--from={source}', f'--to={again}') == 0
  assert (again / 'LICENSE').read_text() == 'terms'
  assert not (again / 'other.md').exists()
  # What was tuned for conversations still is, and what was not is not.
  plain = model.export(tmp_path / 'plain', chat_style='plain')
  assert _run(f'--from={plain}', f'--to={tmp_path / "again"}') == 0
  config = json.loads((tmp_path / 'again' / 'config.json').read_text())
  assert config['eos_token_id'] == 1


def test_from_orbax(model, tmp_path, capsys):
  """A checkpoint with its tokenizer beside it; it is no published size."""
  path = gm_checkpoints.write(tmp_path / 'orbax', model.config, model.params)
  shutil.copy(model.tokenizer, tmp_path / 'tokenizer.model')
  flags = (f'--from={path}', f'--to={tmp_path / "x"}')
  assert _run(*flags) == 2
  assert '--model' in capsys.readouterr().err
  assert _run(*flags, '--model=gemma-3-1') == 2
  assert 'gemma-3-1b?' in capsys.readouterr().err
  assert _run(*flags, '--model=gemma-3-1b') == 2
  assert 'tokenizer' in capsys.readouterr().err


def test_rejected_flags(model, finished, tmp_path, capsys):
  source = model.export(tmp_path / 'there')
  to = f'--to={tmp_path / "x"}'
  for flags, message in [
    ((f'--from={tmp_path / "no"}', to), str(tmp_path / 'no')),
    ((f'--from={tmp_path}', to), str(source)),
    ((f'--from={source}', f'--to={source}'), '--to'),
    ((f'--from={source}', to, '--policy=base'), '--policy=base'),
    ((f'--from={source}', to, '--init-from=x'), '--init-from=x'),
    ((f'--from={finished}', to, '--policy=stage3'), 'stage3'),
    ((f'--from={source}', to, '--model=gemma-3-1b'), 'num_layers: 3'),
    ((f'--from={source}', to, '--tokenizer=nowhere'), 'nowhere'),
  ]:
    assert _run(*flags) == 2
    shown = capsys.readouterr().err
    assert shown.startswith('error: ')
    assert message in shown
  assert not (tmp_path / 'x').exists()


def test_a_misspelt_flag(capsys):
  with pytest.raises(SystemExit):
    _run('--form=x', '--to=y')
  assert '--from' in capsys.readouterr().err


def test_what_was_damaged_is_found(model, tmp_path):
  """A single bit of a single number."""
  directory = model.export(tmp_path / 'x')
  form = chat.ChatFormat(tokenization.Tokenizer(model.tokenizer), 'gemma')
  arguments = (model.config, model.params, form, jnp.float32)
  assert all(
    finding.is_right for finding in export_check.verify(directory, *arguments)
  )
  path = directory / 'model.safetensors'
  contents = bytearray(path.read_bytes())
  contents[-4] ^= 1  # the last number of the last tensor, the final norm
  path.write_bytes(contents)
  [finding] = export_check.verify(directory, *arguments)
  assert not finding.is_right
  assert finding.text == 'tensors that differ: final_norm/scale'


def test_full_disks_are_seen_before_writing(tmp_path):
  with pytest.raises(OSError, match='--to'):
    convert._check_space(tmp_path / 'made' / 'later', 10**18)
