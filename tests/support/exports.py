"""Small models of each generation with tokenizers of their own, to export."""

import atexit
import dataclasses
import functools
import pathlib
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_jax.interop import hugging_face_export, param_builder
from score_jax.models import gemma, model_config, tokenization
from tests.support import small_models

CORPUS = ['What is 12 + 7? Look again: user, model.\nThe sum is 19.'] * 20
SPECIAL = {
  'gemma1': gemma.GEMMA_1_2_TOKENS,
  'gemma2': gemma.GEMMA_1_2_TOKENS,
  'gemma3': gemma.GEMMA_3_TOKENS,
}
NAMES = tuple(SPECIAL)


@dataclasses.dataclass(frozen=True)
class Model:
  """A model whose vocabulary is its tokenizer's."""

  config: model_config.ModelConfig
  params: Any
  tokenizer: pathlib.Path

  def export(self, directory: pathlib.Path, **options) -> pathlib.Path:
    """Exports it in float32 and Gemma's style unless options say otherwise."""
    arguments = {
      'config': self.config,
      'params': self.params,
      'tokenizer_path': self.tokenizer,
      'chat_style': 'gemma',
      'dtype': np.float32,
    }
    return hugging_face_export.export(directory, **(arguments | options))


@functools.cache
def tokenizer(
  special: tokenization.SpecialTokens | None = None, pieces: int = 480
) -> tokenization.Tokenizer:
  """A small tokenizer with a generation's special ids, trained once."""
  directory = tempfile.TemporaryDirectory(prefix='score_jax_tokenizer_')
  atexit.register(directory.cleanup)
  path = pathlib.Path(directory.name) / 'tokenizer.model'
  reserved = tokenization.gemma_pieces(special) if special else ()
  tokenization.train(CORPUS, path, pieces, reserved)
  return tokenization.Tokenizer(path)


@functools.cache
def make(name: str) -> Model:
  """A model of `small_models` with a tokenizer, made once."""
  own = tokenizer(SPECIAL[name])
  config = model_config_of(name, own.vocab_size)
  return Model(config, random_params(config), own.path)


def model_config_of(name: str, vocab_size: int) -> model_config.ModelConfig:
  """A model of `small_models` with another vocabulary."""
  return dataclasses.replace(
    small_models.CONFIGS[name],
    vocab_size=vocab_size,
    # transformers rounds with the weights' dtype, here float32.
    round_embedding_scale=False,
  )


def random_params(config: model_config.ModelConfig) -> Any:
  """Random parameters, drawn by NumPy leaf by leaf, norm scales too."""
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    if path[-1].key == 'scale':
      return 0.2 * rng.normal(size=leaf.shape)
    fan_in = leaf.shape[-1 if path[-1].key == 'embedding' else -2]
    return rng.normal(size=leaf.shape) / np.sqrt(fan_in)

  shapes = param_builder.param_shapes(config)
  return jax.tree.map_with_path(
    lambda *leaf: jnp.asarray(draw(*leaf), jnp.float32), shapes
  )
