"""Writes a Hugging Face directory that transformers and vLLM load as it is.

Weights are copied from the devices block by block, straight into their file.
The directory gets its name when it is complete; until then it has a temporary
one.
"""

from collections.abc import Iterable
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
  hugging_face_weights,
  param_builder,
)
from score_jax.models import chat, gemma, model_config, tokenization

# Not a name that tools look for: a model with a chat template counts as tuned.
PLAIN_TEMPLATE = 'plain_template.jinja'
_DTYPES = ('float32', 'bfloat16')  # Gemma's activations overflow float16

# Turns as `chat.ChatFormat` writes them: the assistant is called model, texts
# are stripped, and there is no system role.
_GEMMA_TEMPLATE = (
  '{{ bos_token }}'
  '{% for message in messages %}'
  "{% if message['role'] not in ('user', 'assistant', 'model') %}"
  "{{ raise_exception('Gemma knows no role ' + message['role'] + '; put it "
  "into the first user message') }}"
  '{% endif %}'
  "{% set role = 'user' if message['role'] == 'user' else 'model' %}"
  "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim"
  " + '<end_of_turn>\n' }}"
  '{% endfor %}'
  "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# A line for each message; the assistant's end with EOS.
_PLAIN_TEMPLATE = (
  '{{ bos_token }}'
  '{% for message in messages %}'
  "{% if message['role'] == 'user' %}"
  "{{ ('' if loop.first else '\n') + message['content'] + '\n' }}"
  "{% else %}{{ message['content'] + eos_token }}{% endif %}"
  '{% endfor %}'
)


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
  notices: Iterable[pathlib.Path] = (),
) -> pathlib.Path:
  """Writes a Hugging Face checkpoint of Gemma 1, 2 or 3 (text only).

  Files: `config.json`, `generation_config.json`, safetensors (with an index if
  there are several), `tokenizer.model` and `tokenizer_config.json` with Gemma's
  chat template; the plain style's template is a file of its own.

  Args:
    directory: to create.
    config: the model.
    params: as from `transformer.init_params`, of any dtype, adapters merged,
      every shard on a device of this process.
    tokenizer_path: the model's `tokenizer.model`.
    chat_style: format of the messages that the model was trained with.
    padded_vocab: embedding rows of the checkpoint, those beyond the vocabulary
      zero; None: no padding.
    dtype: of the weights, float32 or bfloat16.
    max_file_bytes: of the numbers in one file; a tensor is never split.
    notices: files to copy that must accompany the weights.

  Returns:
    The directory.

  Raises:
    FileExistsError: the directory exists.
    FileNotFoundError: the tokenizer does not.
    ValueError: transformers has no such model, or the tokenizer is another
      model's.

  Example:
    >>> sj.export_checkpoint(
    ...   'served', config, params, tokenizer_path='tokenizer.model',
    ...   chat_style='plain').name
    'served'
  """
  directory = pathlib.Path(directory)
  if directory.exists():
    raise FileExistsError(
      f'{directory} already exists; remove it, or choose another directory'
    )
  tokenizer = tokenization.Tokenizer(tokenizer_path)
  gemma.check_tokenizer(config, tokenizer)
  chat_format = chat.ChatFormat(tokenizer, chat_style)
  rows = padded_vocab or config.vocab_size
  _check_arguments(config, params, rows, dtype)
  partial = directory.with_name(f'.{directory.name}.partial')
  # Left behind by an export that was killed.
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir(parents=True)
  try:
    _write_descriptions(partial, config, chat_format, rows=rows, dtype=dtype)
    shutil.copyfile(tokenizer.path, partial / 'tokenizer.model')
    for notice in notices:
      shutil.copyfile(notice, partial / notice.name)
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
  """Waits until a file is on disk, before its directory gets the final name."""
  with path.open('rb') as file:
    os.fsync(file.fileno())


def _check_arguments(config, params, rows, dtype) -> None:
  if np.dtype(dtype).name not in _DTYPES:
    raise ValueError(
      f'dtype {np.dtype(dtype).name}: must be one of {", ".join(_DTYPES)}'
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
        f'{name} is sharded over several processes; export from one process '
        'that restores the checkpoint'
      )


def _write_descriptions(
  directory: pathlib.Path,
  config: model_config.ModelConfig,
  chat_format: chat.ChatFormat,
  *,
  rows: int,
  dtype: Any,
) -> None:
  """Writes the JSON files and the plain style's template.

  Raises:
    ValueError: transformers has no such model.
  """
  model = hugging_face_description.describe(config, rows=rows, dtype=dtype)
  ids = _describe_ids(chat_format)
  files = {
    'config.json': model | ids,
    'generation_config.json': ids,
    'tokenizer_config.json': _describe_tokenizer(
      chat_format, model['max_position_embeddings']
    ),
  }
  for name, contents in files.items():
    (directory / name).write_text(json.dumps(contents, indent=2) + '\n')
  if chat_format.style == 'plain':
    (directory / PLAIN_TEMPLATE).write_text(_PLAIN_TEMPLATE)
  try:
    hugging_face_config.check(config, directory)
  except ValueError as error:
    # Settings that config.json cannot express are lost when it is read again.
    _, _, lines = str(error).partition('\n')
    raise ValueError(
      f'{model["architectures"][0]} of transformers cannot be this model '
      f'(checkpoint: what it would be):\n{lines or error}'
    ) from error


def _describe_ids(chat_format: chat.ChatFormat) -> dict[str, Any]:
  """Returns `generation_config.json`: special ids, all stop tokens as EOS."""
  stops = sorted(chat_format.stop_ids)
  return {
    'bos_token_id': chat_format.tokenizer.bos_id,
    'eos_token_id': stops if len(stops) > 1 else stops[0],
    'pad_token_id': chat_format.tokenizer.pad_id,
  }


def _describe_tokenizer(
  chat_format: chat.ChatFormat, max_length: int
) -> dict[str, Any]:
  """Returns the `tokenizer_config.json`; `max_length` is in tokens.

  Only Gemma's template is part of it: a model with one counts as tuned for
  conversations.
  """
  tokenizer = chat_format.tokenizer
  pieces = tokenizer.special_pieces()
  names = {
    'bos_token': tokenizer.bos_id,
    'eos_token': tokenizer.eos_id,
    'pad_token': tokenizer.pad_id,
    'unk_token': tokenizer.unk_id,
  }
  template = {'chat_template': _GEMMA_TEMPLATE}
  return {
    'tokenizer_class': 'GemmaTokenizer',
    'add_bos_token': True,
    'add_eos_token': False,
    **{name: pieces[index][0] for name, index in names.items()},
    # All special pieces: transformers would build those left out from letters.
    'added_tokens_decoder': {
      str(index): {
        'content': piece,
        'lstrip': False,
        'normalized': False,
        'rstrip': False,
        'single_word': False,
        'special': is_control,
      }
      for index, (piece, is_control) in pieces.items()
    },
    'clean_up_tokenization_spaces': False,
    'spaces_between_special_tokens': False,
    'sp_model_kwargs': {},
    'use_default_system_prompt': False,
    'model_max_length': max_length,
    **(template if chat_format.style == 'gemma' else {}),
  }
