"""Small models of each generation with tokenizers of their own, to export."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_jax.models import gemma, model_config, tokenization, transformer
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


def make(name: str, directory: pathlib.Path) -> Model:
  """A model of `small_models`; its tokenizer is written to a directory."""
  path = directory / 'tokenizer.model'
  pieces = tokenization.gemma_pieces(SPECIAL[name])
  tokenization.train(CORPUS, path, 480, pieces)
  config = model_config_of(name, tokenization.Tokenizer(path).vocab_size)
  return Model(config, random_params(config), path)


def model_config_of(name: str, vocab_size: int) -> model_config.ModelConfig:
  """A model of `small_models` with another vocabulary."""
  return dataclasses.replace(
    small_models.CONFIGS[name],
    vocab_size=vocab_size,
    # transformers rounds with the weights' dtype, here float32.
    round_embedding_scale=False,
  )


def random_params(config: model_config.ModelConfig) -> Any:
  """Parameters whose every leaf is random, norm scales too."""
  init = jax.jit(transformer.init_params, static_argnums=0)
  fresh = jax.device_get(init(config, jax.random.key(0)))
  rng = np.random.default_rng(0)

  def noisy(path, leaf):
    if path[-1].key == 'scale':
      leaf = leaf + 0.2 * rng.normal(size=leaf.shape).astype(np.float32)
    return jnp.asarray(leaf)

  return jax.tree.map_with_path(noisy, fresh)
