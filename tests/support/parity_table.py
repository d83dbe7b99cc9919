"""Prints how far our logits are from Hugging Face's, for each generation.

    python -m tests.support.parity_table

Needs the `parity` extra. The models are those of tests/support/hugging_face.py,
three sequences of 50 tokens; their windows are 8.
"""

import dataclasses
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from score_jax.interop import checkpoint_formats, hugging_face_config
from score_jax.models import transformer
from tests.support import hugging_face

ROWS, LENGTH = 3, 50
HEADINGS = (
  'model',
  'spread of the logits',
  'f32: ours - theirs',
  'bf16: ours - theirs',
  'bf16 - f32, ours',
  'bf16 - f32, theirs',
  'rms of bf16 - f32, ours',
  'theirs',
)


def load(model, directory):
  """Loads config and parameters of a Hugging Face model through its files."""
  model.save_pretrained(directory)
  config = dataclasses.replace(
    hugging_face_config.read(directory, hugging_face.VOCAB),
    round_embedding_scale=False,
  )
  return config, checkpoint_formats.load(directory, config)


def tokens(rows: int = ROWS, length: int = LENGTH) -> np.ndarray:
  """Returns tokens i32 [rows, length], always the same."""
  return np.random.RandomState(0).randint(
    4, hugging_face.VOCAB, (rows, length), dtype=np.int32
  )


def logits(config, params, tokens, dtype=jnp.float32) -> np.ndarray:
  """Our logits f32 [B, T, V], weights and activations in `dtype`."""
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)

  @jax.jit
  def logits(params, tokens):
    hidden, _ = transformer.forward(
      config, params, tokens, positions, dtype=dtype
    )
    return transformer.unembed(config, params['embedding'], hidden)

  params = jax.tree.map(lambda p: p.astype(dtype), params)
  return np.asarray(logits(params, tokens))


def _row(name: str) -> list[float]:
  theirs = hugging_face.logits(hugging_face.model(name), tokens())
  theirs_bf16 = hugging_face.logits(
    hugging_face.model(name, 'bfloat16'), tokens()
  )
  with tempfile.TemporaryDirectory() as directory:
    config, params = load(hugging_face.model(name), pathlib.Path(directory))
  ours = logits(config, params, tokens())
  ours_bf16 = logits(config, params, tokens(), jnp.bfloat16)

  def largest(x):
    return np.abs(x).max()

  return [
    theirs.std(),
    largest(ours - theirs),
    largest(ours_bf16 - theirs_bf16),
    largest(ours_bf16 - ours),
    largest(theirs_bf16 - theirs),
    np.sqrt(np.mean((ours_bf16 - ours) ** 2)),
    np.sqrt(np.mean((theirs_bf16 - theirs) ** 2)),
  ]


def main() -> None:
  print(f'| {" | ".join(HEADINGS)} |')
  print('|---' * len(HEADINGS) + '|')
  for name in hugging_face.CONFIGS:
    numbers = ' | '.join(f'{number:.2g}' for number in _row(name))
    print(f'| {name} | {numbers} |')


if __name__ == '__main__':
  main()
