"""Compares an exported checkpoint with the parameters it was made from."""

import dataclasses
import importlib.metadata
import importlib.util
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_jax.interop import hugging_face_weights, param_builder
from score_jax.models import chat, model_config, transformer

_MESSAGE = 'What is 12 + 7? Explain.'
# Relative to the spread of the logits. Both sides compute in float32 and round
# differently; an error in the weights moves logits by far more.
_TOLERANCE = 0.01
_MEMORY = pathlib.Path('/proc/meminfo')


@dataclasses.dataclass(frozen=True)
class Finding:
  """Outcome of a comparison, for people, and whether it is as expected."""

  text: str
  is_right: bool = True


def verify(
  directory: pathlib.Path,
  config: model_config.ModelConfig,
  params: Any,
  chat_format: chat.ChatFormat,
  dtype: Any,
) -> list[Finding]:
  """Compares every tensor, and logits if transformers is installed.

  Args:
    directory: that `hugging_face_export.export` wrote.
    config: the model.
    params: the parameters that were exported.
    chat_format: of the model.
    dtype: of the weights in the files.
  """
  differing = differing_tensors(directory, config, params, dtype)
  if differing:
    return [Finding(f'tensors that differ: {", ".join(differing[:10])}', False)]
  tensors = Finding('every tensor, read back, is equal to the bit')
  return [
    tensors,
    _compare_logits(directory, config, params, chat_format, dtype),
  ]


def differing_tensors(
  directory: str | pathlib.Path,
  config: model_config.ModelConfig,
  params: Any,
  dtype: Any,
) -> list[str]:
  """Returns the names of parameters that differ from a directory's in any bit.

  Args:
    directory: that `hugging_face_export.export` wrote.
    config: the model.
    params: the parameters that were exported.
    dtype: of the weights in the files.

  Raises:
    ValueError: the directory does not fit the model, or is damaged.
  """
  differing = {}
  for layer, leaf, start, found in hugging_face_weights.read_blocks(
    directory, config
  ):
    expected = param_builder.read_block(
      config, params, layer, leaf, start, found.shape, dtype
    )
    # Bits are compared, since NaN equals nothing.
    if found.dtype != expected.dtype or (
      np.ascontiguousarray(found).tobytes() != expected.tobytes()
    ):
      name = leaf if layer is None else f'layer {layer} {leaf}'
      differing[name] = None
  return list(differing)


def _compare_logits(directory, config, params, chat_format, dtype) -> Finding:
  missing = [
    name
    for name in ('torch', 'transformers')
    if importlib.util.find_spec(name) is None
  ]
  if missing:
    return Finding(f'no logits compared: {" and ".join(missing)} not installed')
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  needed, free = 4 * count * 1.1, _free_memory()
  if free is not None and needed > free:
    return Finding(
      f'no logits compared: transformers needs {needed / 1e9:.1f} GB of memory '
      f'in float32, {free / 1e9:.1f} GB are free'
    )
  ids = chat_format.prompt(_MESSAGE)
  ours = _our_logits(config, params, ids, dtype)
  theirs = _their_logits(directory, ids)[:, : config.vocab_size]
  worst, spread = np.abs(ours - theirs).max(), ours.std()
  version = importlib.metadata.version('transformers')
  return Finding(
    f'logits of transformers {version} for {len(ids)} tokens in float32: '
    f'largest difference {worst:.1e}, their spread {spread:.2g}',
    bool(worst <= _TOLERANCE * spread),
  )


def _our_logits(config, params, ids, dtype) -> np.ndarray:
  # transformers rounds sqrt(width) to the dtype it computes in, here float32.
  config = dataclasses.replace(config, round_embedding_scale=False)
  tokens = jnp.array([ids], jnp.int32)

  @jax.jit
  def logits(params):
    params = jax.tree.map(lambda p: p.astype(dtype), params)
    positions = jnp.arange(len(ids))[None]
    hidden, _ = transformer.forward(
      config, params, tokens, positions, unroll=False
    )
    return transformer.unembed(config, params['embedding'], hidden)[0]

  return np.asarray(logits(params))


def _their_logits(directory, ids) -> np.ndarray:
  # Imported here: heavy, and only installed with the parity extra.
  import torch
  import transformers

  transformers.utils.logging.disable_progress_bar()
  model = transformers.AutoModelForCausalLM.from_pretrained(
    directory, attn_implementation='eager', dtype=torch.float32
  )
  with torch.no_grad():
    return model(torch.tensor([ids])).logits[0].numpy()


def _free_memory() -> int | None:
  """Bytes available without swapping; None where the system does not say."""
  if not _MEMORY.is_file():
    return None
  lines = dict(line.split(':', 1) for line in _MEMORY.read_text().splitlines())
  return int(lines['MemAvailable'].split()[0]) * 1024
