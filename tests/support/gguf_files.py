"""Small GGUF files, as llama.cpp makes them of Hugging Face checkpoints."""

import dataclasses
import pathlib

import numpy as np
import pytest
from sentencepiece import sentencepiece_model_pb2

from score_jax.interop import hugging_face_weights
from score_jax.models import model_config
from tests.support import exports, small_models

gguf = pytest.importorskip('gguf', reason='gguf is missing: pip install gguf')

ARCHITECTURES = {'gemma1': 'gemma', 'gemma2': 'gemma2', 'gemma3': 'gemma3'}
_PERIODS = {
  'gemma1': ('global',),
  'gemma2': ('local', 'global'),
  'gemma3': ('local',) * 5 + ('global',),
}
# Stored in eight bits; the other tensors as they are.
QUANTIZED = 'token_embd.weight'


def model(name: str) -> exports.Model:
  """A model that a GGUF file can describe, of a width that can be quantized."""
  tokenizer = exports.tokenizer(exports.SPECIAL[name])
  config = dataclasses.replace(
    small_models.CONFIGS[name],
    vocab_size=tokenizer.vocab_size,
    width=32,
    num_layers=7,
    layer_pattern=_PERIODS[name],
    query_scale=None,
    norm_epsilon=2e-6,
    round_embedding_scale=True,
  )
  return exports.Model(config, exports.random_params(config), tokenizer.path)


def write(
  path: pathlib.Path, name: str, made: exports.Model, template: str = ''
) -> None:
  """Writes a model and its vocabulary, changed as llama.cpp changes them."""
  writer = gguf.GGUFWriter(path, ARCHITECTURES[name])
  _add_settings(writer, name, made.config)
  _add_vocabulary(writer, made.tokenizer.read_bytes())
  if template:
    writer.add_chat_template(template)
  [number] = [
    n for n, a in gguf.MODEL_ARCH_NAMES.items() if a == ARCHITECTURES[name]
  ]
  names = gguf.get_tensor_name_map(number, made.config.num_layers)
  for theirs, tensor in tensors(made).items():
    stored = names.get_name(theirs, try_suffixes=('.weight',))
    if stored.endswith('norm.weight'):
      tensor = tensor + 1
    kind = gguf.GGMLQuantizationType.F32
    if stored == QUANTIZED:
      kind = gguf.GGMLQuantizationType.Q8_0
      tensor = gguf.quantize(tensor, kind)
    writer.add_tensor(stored, tensor, raw_dtype=kind)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


def tensors(made: exports.Model) -> dict[str, np.ndarray]:
  """The tensors of a model by their names in a Hugging Face file."""
  config, rows = made.config, made.config.vocab_size
  return {
    name: np.concatenate(
      list(
        hugging_face_weights.blocks(
          config, made.params, name, dtype=np.float32, rows=rows
        )
      )
    )
    for name in hugging_face_weights.shapes(config, rows)
  }


def _add_settings(writer, name: str, config: model_config.ModelConfig) -> None:
  writer.add_embedding_length(config.width)
  writer.add_feed_forward_length(config.mlp_width)
  writer.add_block_count(config.num_layers)
  writer.add_head_count(config.num_heads)
  writer.add_head_count_kv(config.num_kv_heads)
  writer.add_key_length(config.head_dim)
  writer.add_layer_norm_rms_eps(config.norm_epsilon)
  if name != 'gemma1':
    writer.add_sliding_window(config.window)
  if name == 'gemma2':
    writer.add_attn_logit_softcapping(config.attention_softcap)
    writer.add_final_logit_softcapping(config.final_softcap)
  if name == 'gemma3':
    writer.add_rope_freq_base(config.global_rope_base)
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(config.global_rope_scale)


def _add_vocabulary(writer, serialized: bytes) -> None:
  pieces, scores, kinds = vocabulary(serialized)
  writer.add_tokenizer_model('llama')
  writer.add_token_list(pieces)
  writer.add_token_scores(scores)
  writer.add_token_types(kinds)
  writer.add_pad_token_id(0)
  writer.add_eos_token_id(1)
  writer.add_bos_token_id(2)
  writer.add_unk_token_id(3)


def vocabulary(serialized: bytes) -> tuple[list[str], list[float], list[int]]:
  """Pieces, scores and kinds of a `tokenizer.model` in a GGUF file.

  Special pieces are control ones, and user-defined pieces have spaces.
  """
  proto = sentencepiece_model_pb2.ModelProto.FromString(serialized)
  pieces, kinds = [], []
  for p in proto.pieces:
    is_special = p.type == p.UNKNOWN or p.piece.startswith('<unused')
    is_special |= p.piece in ('<start_of_turn>', '<end_of_turn>', '<mask>')
    kinds.append(p.CONTROL if is_special else p.type)
    is_text = p.type == p.USER_DEFINED
    pieces.append(p.piece.replace('\u2581', ' ') if is_text else p.piece)
  return pieces, [p.score for p in proto.pieces], kinds
