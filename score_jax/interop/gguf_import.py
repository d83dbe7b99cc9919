"""GGUF files of Gemma 1, 2 and 3 (llama.cpp's format), read.

The package gguf (the extra `gguf`) reads the file and dequantizes its tensors;
their names and the file's settings become those of a Hugging Face checkpoint,
so that what applies to one applies to the other. llama.cpp stores the scales of
norms plus one.
"""

import dataclasses
import functools
import pathlib
import types
from typing import Any

import jax.numpy as jnp
import numpy as np

from score_jax.interop import (
  gguf_tokenizer,
  hugging_face_config,
  hugging_face_weights,
  param_builder,
)
from score_jax.models import model_config

SUFFIX = '.gguf'
INSTALL = "pip install 'gguf>=0.19'"

_FAMILIES = {'gemma': 'gemma', 'gemma2': 'gemma2', 'gemma3': 'gemma3_text'}
# Of `config.json`: the key in the file, after the architecture's name.
_KEYS = {
  'hidden_size': 'embedding_length',
  'intermediate_size': 'feed_forward_length',
  'num_hidden_layers': 'block_count',
  'num_attention_heads': 'attention.head_count',
  'num_key_value_heads': 'attention.head_count_kv',
  'head_dim': 'attention.key_length',
  'rms_norm_eps': 'attention.layer_norm_rms_epsilon',
  'sliding_window': 'attention.sliding_window',
  'rope_theta': 'rope.freq_base',
  'attn_logit_softcapping': 'attn_logit_softcapping',
  'final_logit_softcapping': 'final_logit_softcapping',
}
# A file does not say how queries are scaled. llama.cpp knows the models that
# do not scale them by head_dim, the 27B ones, by their number of layers.
_LAYERS_OF_27B = {'gemma2': 46, 'gemma3': 62}
_EMBEDDING = 'token_embd.weight'
_TEMPLATE = 'tokenizer.chat_template'


def read_config(
  path: str | pathlib.Path, vocab_size: int | None = None
) -> model_config.ModelConfig:
  """Returns the model of a file.

  Args:
    path: of the file.
    vocab_size: pieces of its tokenizer; None: the file's number of embedding
      rows, less Gemma's known padding.

  Raises:
    ValueError: the package gguf is missing, the file is damaged, or the model
      is not Gemma 1, 2 or 3.
  """
  reader = _open(path)
  values, architecture = _values(reader), _architecture(reader)
  if architecture not in _FAMILIES:
    raise ValueError(
      f'{path} is of the architecture {architecture}; only '
      f'{", ".join(_FAMILIES)} can be read'
    )
  file = {
    ours: values[f'{architecture}.{theirs}']
    for ours, theirs in _KEYS.items()
    if f'{architecture}.{theirs}' in values
  }
  scalar = None  # by head_dim
  if file.get('num_hidden_layers') == _LAYERS_OF_27B.get(architecture, -1):
    scalar = file['hidden_size'] // file['num_attention_heads']
  if f'{architecture}.rope.scaling.factor' in values:
    file['rope_scaling'] = {
      'rope_type': values[f'{architecture}.rope.scaling.type'],
      'factor': values[f'{architecture}.rope.scaling.factor'],
    }
  [table] = [t for t in reader.tensors if t.name == _EMBEDDING]
  return hugging_face_config.parse(
    pathlib.Path(path),
    file
    | {
      'model_type': _FAMILIES[architecture],
      'query_pre_attn_scalar': scalar,
      'vocab_size': int(table.shape[1]),
    },
    vocab_size,
  )


def load(
  path: str | pathlib.Path,
  config: model_config.ModelConfig,
  *,
  dtype: Any = jnp.float32,
  shardings: Any = None,
) -> Any:
  """Reads the parameters of a file, dequantized.

  Host memory beyond the result: one block.

  Args:
    path: of the file.
    config: its model, see `read_config`.
    dtype: of the parameters.
    shardings: of each parameter, a tree like them; None: the default device.

  Returns:
    A tree like `transformer.init_params`.

  Raises:
    ValueError: the package gguf is missing, or the file is damaged or holds
      other tensors than the model. The message names each.
  """
  builder = param_builder.ParamBuilder(config, dtype, shardings)
  tensors = _tensors(_open(path), config)
  for block in hugging_face_weights.blocks_of(path, tensors, config):
    builder.write(*block)
  return builder.finish()


def has_template(path: str | pathlib.Path) -> bool:
  """Whether a file holds a chat template, as tuned models' do."""
  return _TEMPLATE in _open(path).fields


def write_tokenizer(
  path: str | pathlib.Path, target: str | pathlib.Path
) -> pathlib.Path:
  """Writes the `tokenizer.model` that a file's vocabulary was made from.

  Raises:
    ValueError: the package gguf is missing, or the file has no sentencepiece
      vocabulary.
  """
  fields = _open(path).fields
  kind = fields['tokenizer.ggml.model'].contents()
  if kind != 'llama':
    raise ValueError(f'{path} has a vocabulary of the kind {kind}, not llama')
  names = ('tokens', 'scores', 'token_type')
  pieces, scores, kinds = (
    fields[f'tokenizer.ggml.{name}'].contents() for name in names
  )
  ids = {
    name: fields[f'tokenizer.ggml.{key}_token_id'].contents()
    for name, key in gguf_tokenizer.SPECIAL.items()
  }
  target = pathlib.Path(target)
  target.write_bytes(gguf_tokenizer.build(pieces, scores, kinds, ids))
  return target


def _library() -> types.ModuleType:
  try:
    import gguf
  except ImportError as error:
    raise ValueError(
      f'GGUF files are read by the package gguf, which is missing: {INSTALL}'
    ) from error
  return gguf


@functools.lru_cache(maxsize=1)  # the vocabulary alone takes seconds
def _open(path: str | pathlib.Path) -> Any:
  gguf = _library()
  try:
    return gguf.GGUFReader(path)
  except (ValueError, IndexError) as error:
    raise ValueError(
      f'{path} is not a GGUF file, or damaged ({error}); fetch it again'
    ) from error


def _architecture(reader: Any) -> str:
  return reader.fields['general.architecture'].contents()


def _values(reader: Any) -> dict[str, Any]:
  """The model's settings by key; not its vocabulary, which is long."""
  return {
    key: field.contents()
    for key, field in reader.fields.items()
    if not key.startswith('tokenizer.')
  }


@dataclasses.dataclass(frozen=True)
class _Tensor:
  """A tensor of a file, dequantized as it is read.

  Attributes:
    stored: as the package gguf describes it.
    offset: what llama.cpp added to its numbers.
  """

  stored: Any
  offset: float
  dtype: str = 'F32'

  @functools.cached_property
  def shape(self) -> tuple[int, ...]:
    return tuple(map(int, reversed(self.stored.shape)))

  def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
    kind = self.stored.tensor_type
    try:
      rows = _library().dequantize(self.stored.data[start:stop], kind)
    except NotImplementedError as error:
      raise ValueError(
        f'{self.stored.name} is quantized as {kind.name}, which the package '
        'gguf cannot undo'
      ) from error
    return rows - np.float32(self.offset) if self.offset else rows


def _tensors(
  reader: Any, config: model_config.ModelConfig
) -> dict[str, _Tensor]:
  """The tensors by their names in a Hugging Face file, without prefix."""
  gguf, architecture = _library(), _architecture(reader)
  [number] = [n for n, a in gguf.MODEL_ARCH_NAMES.items() if a == architecture]
  known = gguf.get_tensor_name_map(number, config.num_layers)
  theirs = {
    known.get_name(name, try_suffixes=('.weight',)): name
    for name in (*hugging_face_weights.shapes(config, 0), 'lm_head.weight')
  }
  return {
    theirs.get(stored.name, stored.name).removeprefix('model.'): _Tensor(
      stored, 1.0 if stored.name.endswith('norm.weight') else 0.0
    )
    for stored in reader.tensors
  }
