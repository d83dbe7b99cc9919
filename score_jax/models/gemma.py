"""The published Gemma models (text): sizes, numerics and special tokens.

Gemma 1 (arXiv:2403.08295), Gemma 2 (arXiv:2408.00118) and Gemma 3
(arXiv:2503.19786). `vocab_size` is the tokenizer's; embedding rows that a
checkpoint pads beyond it are cut when it is read. `mlp_width` is the width of
one of the two gated halves, not the doubled figure of the reports.
"""

from collections.abc import Mapping
import types

from score_jax.models import model_config, tokenization

GEMMA_1_2_TOKENS = tokenization.SpecialTokens(
  vocab_size=256_000, start_of_turn=106, end_of_turn=107
)
GEMMA_3_TOKENS = tokenization.SpecialTokens(
  vocab_size=262_144, start_of_turn=105, end_of_turn=106
)


def _gemma_1(**sizes) -> model_config.ModelConfig:
  return model_config.ModelConfig(
    vocab_size=GEMMA_1_2_TOKENS.vocab_size,
    head_dim=256,
    round_embedding_scale=True,
    **sizes,
  )


def _gemma_2(**sizes) -> model_config.ModelConfig:
  return model_config.ModelConfig(
    vocab_size=GEMMA_1_2_TOKENS.vocab_size,
    layer_pattern=('local', 'global'),
    window=4096,
    post_norms=True,
    attention_softcap=50.0,
    final_softcap=30.0,
    round_embedding_scale=True,
    **sizes,
  )


def _gemma_3(**sizes) -> model_config.ModelConfig:
  return model_config.ModelConfig(
    vocab_size=GEMMA_3_TOKENS.vocab_size,
    layer_pattern=('local',) * 5 + ('global',),
    post_norms=True,
    qk_norm=True,
    global_rope_base=1_000_000.0,
    round_embedding_scale=True,
    **sizes,
  )


CONFIGS: Mapping[str, model_config.ModelConfig] = types.MappingProxyType(
  {
    'gemma-1-2b': _gemma_1(
      width=2048, num_layers=18, num_heads=8, num_kv_heads=1, mlp_width=16384
    ),
    'gemma-1-7b': _gemma_1(
      width=3072, num_layers=28, num_heads=16, num_kv_heads=16, mlp_width=24576
    ),
    'gemma-2-2b': _gemma_2(
      width=2304,
      num_layers=26,
      num_heads=8,
      num_kv_heads=4,
      head_dim=256,
      mlp_width=9216,
    ),
    'gemma-2-9b': _gemma_2(
      width=3584,
      num_layers=42,
      num_heads=16,
      num_kv_heads=8,
      head_dim=256,
      mlp_width=14336,
    ),
    'gemma-2-27b': _gemma_2(
      width=4608,
      num_layers=46,
      num_heads=32,
      num_kv_heads=16,
      head_dim=128,
      mlp_width=36864,
      query_scale=(4608 // 32) ** -0.5,  # width / heads, not head_dim
    ),
    'gemma-3-270m': _gemma_3(
      width=640,
      num_layers=18,
      num_heads=4,
      num_kv_heads=1,
      head_dim=256,
      mlp_width=2048,
      window=512,
    ),
    'gemma-3-1b': _gemma_3(
      width=1152,
      num_layers=26,
      num_heads=4,
      num_kv_heads=1,
      head_dim=256,
      mlp_width=6912,
      window=512,
    ),
    'gemma-3-4b': _gemma_3(
      width=2560,
      num_layers=34,
      num_heads=8,
      num_kv_heads=4,
      head_dim=256,
      mlp_width=10240,
      window=1024,
      global_rope_scale=8.0,
    ),
    'gemma-3-12b': _gemma_3(
      width=3840,
      num_layers=48,
      num_heads=16,
      num_kv_heads=8,
      head_dim=256,
      mlp_width=15360,
      window=1024,
      global_rope_scale=8.0,
    ),
    'gemma-3-27b': _gemma_3(
      width=5376,
      num_layers=62,
      num_heads=32,
      num_kv_heads=16,
      head_dim=128,
      mlp_width=21504,
      window=1024,
      global_rope_scale=8.0,
      query_scale=(5376 // 32) ** -0.5,  # width / heads, not head_dim
    ),
  }
)


def special_tokens(
  config: model_config.ModelConfig,
) -> tokenization.SpecialTokens | None:
  """Returns the special ids of a Gemma vocabulary, by its size, or None."""
  for tokens in (GEMMA_1_2_TOKENS, GEMMA_3_TOKENS):
    if tokens.vocab_size == config.vocab_size:
      return tokens
  return None


def check_tokenizer(
  config: model_config.ModelConfig, tokenizer: tokenization.Tokenizer
) -> None:
  """Rejects a tokenizer that is not the model's own.

  Raises:
    ValueError: the vocabulary's size or a special id differs; the message
      lists every difference.
  """
  expected = special_tokens(config)
  if expected is not None:
    tokenizer.require(expected)
  elif tokenizer.vocab_size != config.vocab_size:
    raise ValueError(
      f'{tokenizer.path} has {tokenizer.vocab_size} pieces, but the model '
      f'embeds {config.vocab_size}; pass the tokenizer.model that the '
      'checkpoint was trained with'
    )
