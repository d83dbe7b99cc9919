"""The door to published checkpoints: which kind, which model, which message."""

import json

import jax
import numpy as np
import pytest

from score_jax.interop import (
  checkpoint_formats,
  hugging_face_config,
  hugging_face_description,
)
from score_jax.models import gemma, tokenization
from tests.support import exports, gm_checkpoints


@pytest.fixture(scope='module')
def model():
  """A small Gemma 2 with its tokenizer."""
  return exports.make('gemma2')


@pytest.fixture(scope='module')
def hugging_face(model, tmp_path_factory):
  """It as a Hugging Face directory, with padded rows."""
  return model.export(
    tmp_path_factory.mktemp('hf') / 'x',
    padded_vocab=model.config.vocab_size + 8,
  )


@pytest.fixture(scope='module')
def orbax(model, tmp_path_factory):
  """It as an Orbax checkpoint."""
  path = tmp_path_factory.mktemp('orbax') / 'x'
  return gm_checkpoints.write(path, model.config, model.params)


def test_both_kinds(model, hugging_face, orbax):
  assert checkpoint_formats.identify(hugging_face) == 'hugging_face'
  assert checkpoint_formats.identify(orbax) == 'orbax'
  for path in (hugging_face, orbax):
    found = checkpoint_formats.load(path, model.config)
    jax.tree.map(np.testing.assert_array_equal, found, model.params)


def test_a_hugging_face_directory_without_weights(hugging_face, tmp_path):
  text = (hugging_face / 'config.json').read_text()
  (tmp_path / 'config.json').write_text(text)
  assert checkpoint_formats.identify(tmp_path) == 'hugging_face'


def test_what_is_no_checkpoint(hugging_face, orbax, tmp_path):
  with pytest.raises(FileNotFoundError, match='no is not a directory'):
    checkpoint_formats.identify(tmp_path / 'no')
  with pytest.raises(ValueError, match='it holds nothing'):
    checkpoint_formats.identify(tmp_path)
  for name in 'abcdef':
    (tmp_path / name).write_text(name)
  with pytest.raises(ValueError, match=r'it holds a, b, c, d, e, \.\.\.$'):
    checkpoint_formats.identify(tmp_path)
  for path in (hugging_face, orbax):
    with pytest.raises(ValueError, match=f'pass the one in it: {path}$'):
      checkpoint_formats.identify(path.parent)


def test_a_run_directory(tmp_path):
  (tmp_path / 'config.json').write_text('{"settings": {}}')
  (tmp_path / 'pretrained').mkdir()
  (tmp_path / 'pretrained' / 'config.json').write_text('{"model_type": "x"}')
  with pytest.raises(ValueError, match='is a run directory'):
    checkpoint_formats.identify(tmp_path)


def test_config_of_an_orbax_checkpoint_is_a_name(orbax):
  named = checkpoint_formats.read_config(orbax, 'gemma-2-2b')
  assert named is gemma.CONFIGS['gemma-2-2b']
  with pytest.raises(ValueError, match='gemma-1-2b, gemma-1-7b'):
    checkpoint_formats.read_config(orbax)
  with pytest.raises(ValueError, match='did you mean gemma-2-2b'):
    checkpoint_formats.read_config(orbax, 'gemma2-2b')
  with pytest.raises(ValueError, match="'llama'; there are gemma-1"):
    checkpoint_formats.read_config(orbax, 'llama')
  # Another model's name: every tensor is compared before one is read.
  message = r'attn/_query_norm/scale is missing[\s\S]*and \d+ more'
  with pytest.raises(ValueError, match=message):
    checkpoint_formats.load(orbax, gemma.CONFIGS['gemma-3-270m'])


def test_config_of_a_hugging_face_directory(model, hugging_face):
  tokenizer = tokenization.Tokenizer(model.tokenizer)
  rows = model.config.vocab_size + 8
  assert checkpoint_formats.read_config(hugging_face).vocab_size == rows
  assert hugging_face_config.embedding_rows(hugging_face) == rows
  found = checkpoint_formats.read_config(hugging_face, tokenizer=tokenizer)
  assert found.vocab_size == model.config.vocab_size
  with pytest.raises(ValueError, match='width: 24 in the .*, 2304 in the mod'):
    checkpoint_formats.read_config(hugging_face, 'gemma-2-2b')


@pytest.mark.parametrize(
  ('name', 'rows'),
  [('gemma-2-2b', 256_000), ('gemma-1-7b', 256_128), ('gemma-3-4b', 262_208)],
)
def test_published_sizes(name, rows, model, tmp_path):
  """Known padding is cut, and a tokenizer of another size refused."""
  config = gemma.CONFIGS[name]
  description = hugging_face_description.describe(
    config, rows=rows, dtype=np.float32
  )
  (tmp_path / 'config.json').write_text(json.dumps(description))
  assert checkpoint_formats.read_config(tmp_path, name) is config
  found = checkpoint_formats.read_config(tmp_path)
  assert found.vocab_size == config.vocab_size
  tokenizer = tokenization.Tokenizer(model.tokenizer)
  message = f'vocab_size is {tokenizer.vocab_size}, the checkpoint has 2'
  for chosen in (None, name):
    with pytest.raises(ValueError, match=message):
      checkpoint_formats.read_config(tmp_path, chosen, tokenizer=tokenizer)


def test_too_large_a_tokenizer(hugging_face, tmp_path):
  tokenization.train(
    [*exports.CORPUS, 'αβγδεζηθικλμνξοπρστυφχψω'],
    tmp_path / 'tokenizer.model',
    560,
    tokenization.gemma_pieces(gemma.GEMMA_1_2_TOKENS),
  )
  tokenizer = tokenization.Tokenizer(tmp_path / 'tokenizer.model')
  rows = hugging_face_config.embedding_rows(hugging_face)
  assert tokenizer.vocab_size > rows
  message = f'has {tokenizer.vocab_size} pieces, but the model embeds {rows}'
  with pytest.raises(ValueError, match=message):
    checkpoint_formats.read_config(hugging_face, tokenizer=tokenizer)


def test_a_tokenizer_whose_turns_end_otherwise(hugging_face, tmp_path):
  # Not larger than the embedding, so that its size alone would pass.
  path = tmp_path / 'tokenizer.model'
  pieces = ['<mask>', tokenization.START_OF_TURN, tokenization.END_OF_TURN]
  tokenization.train(['1 + 1 = 2'], path, 280, reserved=pieces)
  other = tokenization.Tokenizer(path)
  stops = json.loads((hugging_face / 'config.json').read_text())['eos_token_id']
  assert other.piece_id(tokenization.END_OF_TURN) not in stops
  with pytest.raises(
    ValueError, match=r'<end_of_turn> is \d+, and .* stops at'
  ):
    checkpoint_formats.read_config(hugging_face, tokenizer=other)


def test_tokenizers_are_found_in_the_directory_and_beside_it(tmp_path):
  checkpoint = tmp_path / 'checkpoint'
  checkpoint.mkdir()
  with pytest.raises(FileNotFoundError, match='tokenizer.model'):
    checkpoint_formats.find_tokenizer(checkpoint)
  (tmp_path / 'tokenizer.model').touch()
  found = checkpoint_formats.find_tokenizer(checkpoint)
  assert found.samefile(tmp_path / 'tokenizer.model')
  (checkpoint / 'tokenizer.model').touch()
  found = checkpoint_formats.find_tokenizer(checkpoint)
  assert found.samefile(checkpoint / 'tokenizer.model')
