"""The `config.json` of a Hugging Face Gemma, written.

In both spellings: `rope_theta`, `rope_scaling`, `sliding_window_pattern` and
`torch_dtype` of transformers 4, `rope_parameters`, `layer_types` and `dtype` of
transformers 5.
"""

from typing import Any

import numpy as np

from score_jax.models import model_config

_ARCHITECTURES = {
  'gemma': 'GemmaForCausalLM',
  'gemma2': 'Gemma2ForCausalLM',
  'gemma3_text': 'Gemma3ForCausalLM',
}
_LAYER_TYPES = {'local': 'sliding_attention', 'global': 'full_attention'}


def _family(config: model_config.ModelConfig) -> str:
  """The `model_type`; the norms tell generations apart."""
  if config.qk_norm:
    return 'gemma3_text'
  return 'gemma2' if config.post_norms else 'gemma'


def describe(
  config: model_config.ModelConfig, *, rows: int, dtype: Any
) -> dict[str, Any]:
  """Returns the `config.json` of a model, without special ids.

  Args:
    config: the model.
    rows: of the embedding, padding included.
    dtype: of the weights.
  """
  family, name = _family(config), np.dtype(dtype).name
  file = {
    'architectures': [_ARCHITECTURES[family]],
    'model_type': family,
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
    'rms_norm_eps': config.norm_epsilon,
    'use_cache': True,
    'tie_word_embeddings': True,
    'attention_bias': False,
    'attention_dropout': 0.0,
    'dtype': name,
    'torch_dtype': name,
  }
  if family == 'gemma':
    return file | _one_rope(config)
  scale = config.query_scale or config.head_dim**-0.5
  file |= {
    'query_pre_attn_scalar': round(scale**-2),
    'attn_logit_softcapping': config.attention_softcap,
    'final_logit_softcapping': config.final_softcap,
    'sliding_window': config.window,
    'layer_types': [_LAYER_TYPES[kind] for kind in config.layer_kinds],
  }
  if family == 'gemma2':
    return file | _one_rope(config)
  return file | _two_ropes(config)


def _positions(config) -> int:
  """Longest text in tokens, as published."""
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
