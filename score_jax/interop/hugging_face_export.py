"""Writes a directory that transformers and vLLM load as it is.

Weights leave the devices block by block and go straight to their file. All is
written under a temporary name: a directory of the final name is whole.
"""

import functools
import json
import os
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_jax.interop import (
  hugging_face_config,
  hugging_face_description,
  hugging_face_import,
  hugging_face_weights,
)
from score_jax.models import (
  chat,
  gemma,
  model_config,
  param_builder,
  tokenization,
)

# For servers that are told to use it; no file by which a model counts as tuned.
PLAIN_TEMPLATE = 'plain_template.jinja'
DTYPES = ('float32', 'bfloat16')  # Gemma's activations overflow float16


def export(
  directory: str | pathlib.Path,
  config: model_config.ModelConfig,
  params: Any,
  *,
  tokenizer_path: str | pathlib.Path,
  chat_style: chat.ChatStyle,
  padded_vocab: int | None = None,
  dtype: Any = jnp.bfloat16,
  max_file_bytes: int = hugging_face_weights.MAX_FILE_BYTES,
) -> pathlib.Path:
  """Writes a Hugging Face checkpoint of Gemma 1, 2 or 3 (text only).

  It holds `config.json`, `generation_config.json`, safetensors (with an index
  where they are several), `tokenizer.model` and `tokenizer_config.json` with
  Gemma's chat template; in the plain style that is a file of its own.

  Args:
    directory: to make.
    config: the model.
    params: as from `transformer.init_params`, of any dtype and sharding that
      this process can read; of a model with adapters, merged.
    tokenizer_path: the model's `tokenizer.model`.
    chat_style: format of the messages that the model was trained with.
    padded_vocab: embedding rows of the checkpoint; those beyond the vocabulary
      are zero. None: none are.
    dtype: of the weights, float32 or bfloat16.
    max_file_bytes: of the numbers in one file; a tensor is never split.

  Returns:
    The directory.

  Raises:
    FileExistsError: the directory is there.
    FileNotFoundError: there is no tokenizer.
    ValueError: transformers has no such model, or the tokenizer is another
      model's.
  """
  directory = pathlib.Path(directory)
  if directory.exists():
    raise FileExistsError(
      f'{directory} is there already; remove it, or choose another directory'
    )
  tokenizer = tokenization.Tokenizer(tokenizer_path)
  gemma.check_tokenizer(config, tokenizer)
  chat_format = chat.ChatFormat(tokenizer, chat_style)
  rows = padded_vocab or config.vocab_size
  _refuse_mistakes(config, params, rows, dtype)
  partial = directory.with_name(f'.{directory.name}.partial')
  # Left behind where a process was killed.
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir(parents=True)
  try:
    write_descriptions(partial, config, chat_format, rows=rows, dtype=dtype)
    shutil.copyfile(tokenizer.path, partial / 'tokenizer.model')
    hugging_face_weights.write(
      partial,
      hugging_face_weights.shapes(config, rows),
      dtype,
      functools.partial(
        hugging_face_weights.blocks, config, params, dtype=dtype, rows=rows
      ),
      max_file_bytes,
    )
    for path in partial.iterdir():
      _flush(path)
    partial.rename(directory)
  except BaseException:
    shutil.rmtree(partial, ignore_errors=True)
    raise
  return directory


def _flush(path: pathlib.Path) -> None:
  """Waits until a file is on its disk, before its directory gets a name."""
  with path.open('rb') as file:
    os.fsync(file.fileno())


def _refuse_mistakes(config, params, rows, dtype) -> None:
  if np.dtype(dtype).name not in DTYPES:
    raise ValueError(
      f'dtype {np.dtype(dtype).name}: must be one of {", ".join(DTYPES)}'
    )
  if rows < config.vocab_size:
    raise ValueError(
      f'padded_vocab={rows} is less than the vocabulary of {config.vocab_size}'
    )
  if config.width % config.num_heads:
    raise ValueError(
      f'transformers has no model of width {config.width} and '
      f'{config.num_heads} heads: the width must be a multiple of them'
    )
  shapes = param_builder.param_shapes(config)
  if jax.tree.structure(params) != jax.tree.structure(shapes):
    raise ValueError(
      'the parameters are not the tree of this model; merge adapters first, '
      'and pass stacked layers'
    )
  for path, (leaf, shape) in jax.tree.leaves_with_path(
    jax.tree.map(lambda a, b: (a, b), params, shapes),
    is_leaf=lambda x: isinstance(x, tuple),
  ):
    name = param_builder.path_name(path)
    if leaf.shape != shape.shape:
      raise ValueError(
        f'{name} is {list(leaf.shape)}, the model has {list(shape.shape)}'
      )
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
      raise ValueError(
        f'{name} is spread over several processes; export from one process '
        'that restores the checkpoint'
      )


def write_descriptions(
  directory: pathlib.Path,
  config: model_config.ModelConfig,
  chat_format: chat.ChatFormat,
  *,
  rows: int,
  dtype: Any,
) -> None:
  """Writes the JSON files.

  Raises:
    ValueError: no model of transformers is this one.
  """
  model = hugging_face_description.describe_model(
    config, rows=rows, dtype=dtype
  )
  ids = hugging_face_description.describe_ids(chat_format)
  files = {
    'config.json': model | ids,
    'generation_config.json': ids,
    'tokenizer_config.json': hugging_face_description.describe_tokenizer(
      chat_format, model['max_position_embeddings']
    ),
  }
  for name, contents in files.items():
    (directory / name).write_text(json.dumps(contents, indent=2) + '\n')
  if chat_format.style == 'plain':
    (directory / PLAIN_TEMPLATE).write_text(
      hugging_face_description.PLAIN_TEMPLATE
    )
  try:
    hugging_face_config.check(config, directory)
  except ValueError as error:
    # What the files could not say is what reading them again gets wrong.
    _, _, lines = str(error).partition('\n')
    raise ValueError(
      f'{model["architectures"][0]} of transformers cannot be this model '
      f'(checkpoint: what it would be):\n{lines or error}'
    ) from error


def differing_tensors(
  directory: str | pathlib.Path,
  config: model_config.ModelConfig,
  params: Any,
  dtype: Any,
) -> list[str]:
  """Parameters that a directory does not have to the bit, by name.

  Args:
    directory: what `export` wrote; read as `checkpoint_formats.load` does.
    config: the model.
    params: that were exported.
    dtype: of the weights in the files.

  Raises:
    ValueError: the directory does not fit the model, or is damaged.
  """
  differing = {}
  for layer, leaf, start, found in hugging_face_import.read_blocks(
    directory, config
  ):
    expected = param_builder.read_block(
      config, params, layer, leaf, start, found.shape, dtype
    )
    # Not numbers are equal to nothing: bits are compared.
    if found.dtype != expected.dtype or (
      np.ascontiguousarray(found).tobytes() != expected.tobytes()
    ):
      name = leaf if layer is None else f'layer {layer} {leaf}'
      differing[name] = None
  return list(differing)
