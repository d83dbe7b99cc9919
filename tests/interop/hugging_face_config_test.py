"""config.json files of both spellings, and those that are refused."""

import dataclasses
import json

import pytest

from score_jax.interop import hugging_face_config, hugging_face_description
from score_jax.models import gemma

# What the published files say of the model's shape and numerics.
GEMMA_1_2B = {
  'model_type': 'gemma',
  'hidden_act': 'gelu',
  'hidden_activation': None,
  'hidden_size': 2048,
  'intermediate_size': 16384,
  'num_attention_heads': 8,
  'num_hidden_layers': 18,
  'num_key_value_heads': 1,
  'head_dim': 256,
  'rms_norm_eps': 1e-06,
  'rope_scaling': None,
  'rope_theta': 10000.0,
  'vocab_size': 256000,
}
GEMMA_2_27B = {
  'model_type': 'gemma2',
  'attn_logit_softcapping': 50.0,
  'final_logit_softcapping': 30.0,
  'head_dim': 128,
  'hidden_activation': 'gelu_pytorch_tanh',
  'hidden_size': 4608,
  'intermediate_size': 36864,
  'num_attention_heads': 32,
  'num_hidden_layers': 46,
  'num_key_value_heads': 16,
  'query_pre_attn_scalar': 144,
  'rope_theta': 10000.0,
  'sliding_window': 4096,
  'vocab_size': 256000,
}
GEMMA_3_1B = {
  'model_type': 'gemma3_text',
  'attention_bias': False,
  'attn_logit_softcapping': None,
  'final_logit_softcapping': None,
  'head_dim': 256,
  'hidden_activation': 'gelu_pytorch_tanh',
  'hidden_size': 1152,
  'intermediate_size': 6912,
  'num_attention_heads': 4,
  'num_hidden_layers': 26,
  'num_key_value_heads': 1,
  'query_pre_attn_scalar': 256,
  'rope_local_base_freq': 10000,
  'rope_scaling': None,
  'rope_theta': 1000000,
  'sliding_window': 512,
  'sliding_window_pattern': 6,
  'vocab_size': 262144,
}
# With a vision tower, and silent about what is the default.
GEMMA_3_4B = {
  'model_type': 'gemma3',
  'vision_config': {'hidden_size': 1152},
  'text_config': {
    'model_type': 'gemma3_text',
    'hidden_size': 2560,
    'intermediate_size': 10240,
    'num_hidden_layers': 34,
    'rope_scaling': {'factor': 8.0, 'rope_type': 'linear'},
    'sliding_window': 1024,
  },
}
# As transformers 5 writes it.
GEMMA_3_1B_NEW = {
  key: value
  for key, value in GEMMA_3_1B.items()
  if not key.startswith('rope') and key != 'sliding_window_pattern'
} | {
  'layer_types': [
    'full_attention' if i % 6 == 5 else 'sliding_attention' for i in range(26)
  ],
  'rope_parameters': {
    'full_attention': {'rope_type': 'default', 'rope_theta': 1000000},
    'sliding_attention': {'rope_type': 'default', 'rope_theta': 10000},
  },
  'tie_word_embeddings': True,
  'use_bidirectional_attention': False,
}


def _write(directory, file):
  (directory / 'config.json').write_text(json.dumps(file))
  return directory


@pytest.mark.parametrize(
  ('file', 'name'),
  [
    (GEMMA_1_2B, 'gemma-1-2b'),
    (GEMMA_2_27B, 'gemma-2-27b'),
    (GEMMA_3_1B, 'gemma-3-1b'),
    (GEMMA_3_4B, 'gemma-3-4b'),
    (GEMMA_3_1B_NEW, 'gemma-3-1b'),
  ],
)
def test_published_files(file, name, tmp_path):
  _write(tmp_path, file)
  config = gemma.CONFIGS[name]
  hugging_face_config.check(config, tmp_path)
  found = hugging_face_config.read(tmp_path)
  assert found.layer_kinds == config.layer_kinds
  assert found.vocab_size == config.vocab_size  # 262208 of the 4B are cut
  # What is read is the named configuration, up to how defaults are written.
  scale = found.head_dim**-0.5
  assert (found.query_scale or scale) == (config.query_scale or scale)
  same = {'query_scale': None, 'layer_pattern': ('global',)}
  assert dataclasses.replace(found, **same) == dataclasses.replace(
    config, **same
  )


def test_any_epsilon_is_a_number(tmp_path):
  """Also 1e-6 as float32 writes it, which is the same to the norms."""
  _write(tmp_path, GEMMA_3_1B | {'rms_norm_eps': 9.999999974752427e-07})
  hugging_face_config.check(gemma.CONFIGS['gemma-3-1b'], tmp_path)
  _write(tmp_path, GEMMA_3_1B | {'rms_norm_eps': 1e-5})
  config = hugging_face_config.read(tmp_path)
  assert config.norm_epsilon == 1e-5
  described = hugging_face_description.describe(config, rows=9, dtype='float32')
  assert described['rms_norm_eps'] == 1e-5
  with pytest.raises(ValueError, match='norm_epsilon'):
    hugging_face_config.check(gemma.CONFIGS['gemma-3-1b'], tmp_path)


def test_check_lists_every_difference(tmp_path):
  _write(tmp_path, GEMMA_3_1B | {'sliding_window': 1024, 'rope_theta': 10000})
  with pytest.raises(ValueError, match='describes another model') as error:
    hugging_face_config.check(gemma.CONFIGS['gemma-3-1b'], tmp_path)
  assert str(error.value).splitlines()[1:] == [
    '  window: 1024 in the checkpoint, 512 in the model',
    '  global_rope_base: 10000.0 in the checkpoint, 1000000.0 in the model',
  ]
  _write(tmp_path, GEMMA_2_27B)
  with pytest.raises(ValueError, match='query_scale: 0.08333') as error:
    hugging_face_config.check(gemma.CONFIGS['gemma-2-9b'], tmp_path)
  assert 'num_heads: 32 in the checkpoint, 16' in str(error.value)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'model_type': 'gemma3n'}, "model_type 'gemma3n' is not one of"),
    ({'hidden_activation': 'gelu'}, "hidden_activation is 'gelu'"),
    ({'rms_norm_eps': 0.0}, 'rms_norm_eps is 0.0'),
    ({'rms_norm_eps': '1e-6'}, "rms_norm_eps is '1e-6'"),
    ({'tie_word_embeddings': False}, 'tie_word_embeddings is False'),
    ({'attention_bias': True}, 'attention_bias is True'),
    ({'use_bidirectional_attention': True}, 'use_bidirectional_attention'),
    ({'quantization_config': {'bits': 4}}, 'quantization_config is'),
    (
      {'rope_scaling': {'rope_type': 'yarn', 'factor': 8.0}},
      "rope_type 'yarn'",
    ),
    ({'layer_types': ['sliding_attention']}, 'must name 26 layers'),
    ({'layer_types': ['chunked_attention'] * 26}, 'must name 26 layers'),
    (
      {
        'rope_parameters': {
          'sliding_attention': {'rope_type': 'linear', 'factor': 2.0}
        }
      },
      'RoPE scaling of sliding layers',
    ),
  ],
)
def test_what_is_not_supported_is_rejected(change, message, tmp_path):
  _write(tmp_path, GEMMA_3_1B | change)
  with pytest.raises(ValueError, match=message):
    hugging_face_config.read(tmp_path)


def test_files_that_cannot_be_read(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'no config\.json in'):
    hugging_face_config.read(tmp_path)
  (tmp_path / 'config.json').write_text('{"model_type": ')
  with pytest.raises(ValueError, match='is not JSON'):
    hugging_face_config.read(tmp_path)


@pytest.mark.parametrize(
  ('kinds', 'pattern', 'repeats', 'remainder'),
  [
    ('LLLLLGL', 'LLLLLG', 1, 1),
    ('LGLGL', 'LG', 2, 1),
    ('LLLL', 'L', 4, 0),
    ('GGLG', 'GGL', 1, 1),
  ],
)
def test_shortest_pattern(kinds, pattern, repeats, remainder, tmp_path):
  names = {'L': 'sliding_attention', 'G': 'full_attention'}
  _write(
    tmp_path,
    GEMMA_3_1B
    | {
      'num_hidden_layers': len(kinds),
      'layer_types': [names[kind] for kind in kinds],
    },
  )
  config = hugging_face_config.read(tmp_path)
  short = {'L': 'local', 'G': 'global'}
  assert config.layer_pattern == tuple(short[kind] for kind in pattern)
  assert (config.num_repeats, config.num_remainder) == (repeats, remainder)


def test_vision(tmp_path):
  path = tmp_path / 'config.json'
  path.write_text('{"model_type": "gemma3", "text_config": {}}')
  assert hugging_face_config.has_vision(tmp_path)
  # The larger Gemma 3 are silent about it.
  assert hugging_face_config.embedding_rows(tmp_path) == 262_208
  path.write_text('{"model_type": "gemma3_text", "vocab_size": 262144}')
  assert not hugging_face_config.has_vision(tmp_path)
  assert hugging_face_config.embedding_rows(tmp_path) == 262_144
