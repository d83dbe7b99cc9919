"""A model and its chat format as the JSON files of a Hugging Face directory.

`config.json` has both spellings, that of transformers 4 (`rope_theta`,
`sliding_window_pattern`, `torch_dtype`) and that of transformers 5
(`rope_parameters`, `layer_types`, `dtype`).
"""

from typing import Any

import numpy as np

from score_jax.models import chat, model_config

_ARCHITECTURES = {
  'gemma': 'GemmaForCausalLM',
  'gemma2': 'Gemma2ForCausalLM',
  'gemma3_text': 'Gemma3ForCausalLM',
}
_KINDS = {'local': 'sliding_attention', 'global': 'full_attention'}

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
# A line for each message; an attempt ends with EOS.
PLAIN_TEMPLATE = (
  '{{ bos_token }}'
  '{% for message in messages %}'
  "{% if message['role'] == 'user' %}"
  "{{ ('' if loop.first else '\n') + message['content'] + '\n' }}"
  "{% else %}{{ message['content'] + eos_token }}{% endif %}"
  '{% endfor %}'
)


def family(config: model_config.ModelConfig) -> str:
  """The `model_type` that has a model's parts: norms tell generations apart."""
  if config.qk_norm:
    return 'gemma3_text'
  return 'gemma2' if config.post_norms else 'gemma'


def describe_model(
  config: model_config.ModelConfig, *, rows: int, dtype: Any
) -> dict[str, Any]:
  """The `config.json` of a model, without special ids.

  Args:
    config: the model.
    rows: of the embedding, padding included.
    dtype: of the weights.
  """
  kind, name = family(config), np.dtype(dtype).name
  file = {
    'architectures': [_ARCHITECTURES[kind]],
    'model_type': kind,
    'vocab_size': rows,
    'hidden_size': config.width,
    'intermediate_size': config.mlp_width,
    'num_hidden_layers': config.num_layers,
    'num_attention_heads': config.num_heads,
    'num_key_value_heads': config.num_kv_heads,
    'head_dim': config.head_dim,
    'hidden_act': 'gelu_pytorch_tanh',
    'hidden_activation': 'gelu_pytorch_tanh',
    'max_position_embeddings': _positions(config),
    'initializer_range': 0.02,
    'rms_norm_eps': 1e-6,
    'use_cache': True,
    'tie_word_embeddings': True,
    'attention_bias': False,
    'attention_dropout': 0.0,
    'dtype': name,
    'torch_dtype': name,
  }
  if kind == 'gemma':
    return file | _one_rope(config)
  scale = config.query_scale or config.head_dim**-0.5
  file |= {
    'query_pre_attn_scalar': round(scale**-2),
    'attn_logit_softcapping': config.attention_softcap,
    'final_logit_softcapping': config.final_softcap,
    'sliding_window': config.window,
    'layer_types': [_KINDS[kind] for kind in config.layer_kinds],
  }
  if kind == 'gemma2':
    return file | _one_rope(config)
  return file | _two_ropes(config)


def _positions(config) -> int:
  """How long texts may be, as published."""
  if not config.qk_norm:
    return 8192
  return 131_072 if config.global_rope_scale > 1 else 32_768


def _scaled(rope_scale: float) -> dict[str, Any]:
  if rope_scale == 1:
    return {'rope_type': 'default'}
  return {'rope_type': 'linear', 'factor': rope_scale}


def _one_rope(config) -> dict[str, Any]:
  base, rope_scale = config.rope('global')
  rope = _scaled(rope_scale)
  return {
    'rope_parameters': rope | {'rope_theta': base},
    'rope_theta': base,
    'rope_scaling': None if rope_scale == 1 else rope,
  }


def _two_ropes(config) -> dict[str, Any]:
  (local_base, _), (base, rope_scale) = map(config.rope, ('local', 'global'))
  rope = _scaled(rope_scale)
  file = {
    'rope_parameters': {
      'full_attention': rope | {'rope_theta': base},
      'sliding_attention': _scaled(1) | {'rope_theta': local_base},
    },
    'rope_theta': base,
    'rope_local_base_freq': local_base,
    'rope_scaling': None if rope_scale == 1 else rope,
  }
  pattern = config.layer_pattern
  if pattern == ('local',) * (len(pattern) - 1) + ('global',):
    file['sliding_window_pattern'] = len(pattern)
  return file


def describe_ids(chat_format: chat.ChatFormat) -> dict[str, Any]:
  """The `generation_config.json`, also part of `config.json`.

  Every id that ends an answer is among the EOS.
  """
  stops = sorted(chat_format.stop_ids)
  return {
    'bos_token_id': chat_format.tokenizer.bos_id,
    'eos_token_id': stops if len(stops) > 1 else stops[0],
    'pad_token_id': chat_format.tokenizer.pad_id,
  }


def describe_tokenizer(
  chat_format: chat.ChatFormat, positions: int
) -> dict[str, Any]:
  """The `tokenizer_config.json` beside a `tokenizer.model`.

  Args:
    chat_format: of the model. That a file has a template says that the model
      was tuned for conversations, so only Gemma's is written.
    positions: how many tokens the model takes.
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
    # All of them: transformers would merge the letters of others instead.
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
    'model_max_length': positions,
    **(template if chat_format.style == 'gemma' else {}),
  }
