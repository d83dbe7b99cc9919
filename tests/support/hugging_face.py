"""Small random Gemma models of the `transformers` library.

Needs the `parity` extra. Each model has every special part of its generation,
at sizes that hide no error: heads x head_dim differs from the width, queries
are not scaled by head_dim, the window is far shorter than the sequences, the
soft-caps bite, and layers are left over after the last whole pattern.
"""

import numpy as np
import pytest

from tests.support import random_checkpoints

_REASON = 'is missing: install the parity extra'
torch = pytest.importorskip('torch', reason=f'torch {_REASON}')
transformers = pytest.importorskip(
  'transformers', reason=f'transformers {_REASON}'
)

VOCAB = 96
ROWS = 104  # of the embedding: checkpoints pad it beyond the tokenizer's

_SIZES = {
  'vocab_size': ROWS,
  'hidden_size': 48,
  'intermediate_size': 80,
  'num_attention_heads': 4,
  'head_dim': 20,
  'max_position_embeddings': 256,
}
CONFIGS = {
  'gemma-1': transformers.GemmaConfig(
    **_SIZES, num_hidden_layers=3, num_key_value_heads=1
  ),
  'gemma-1-mha': transformers.GemmaConfig(
    **_SIZES, num_hidden_layers=2, num_key_value_heads=4
  ),
  'gemma-2': transformers.Gemma2Config(
    **_SIZES,
    num_hidden_layers=5,
    num_key_value_heads=2,
    query_pre_attn_scalar=12,
    sliding_window=8,
    attn_logit_softcapping=3.0,
    final_logit_softcapping=5.0,
  ),
  'gemma-3': transformers.Gemma3TextConfig(
    **_SIZES,
    num_hidden_layers=7,
    num_key_value_heads=2,
    query_pre_attn_scalar=12,
    sliding_window=8,
    rope_parameters={
      'full_attention': {
        'rope_type': 'linear',
        'factor': 8.0,
        'rope_theta': 1_000_000.0,
      },
      'sliding_attention': {'rope_type': 'default', 'rope_theta': 10_000.0},
    },
  ),
}


def model(name: str, dtype: str = 'float32'):
  """Makes a random model with eager attention, f32 weights cast to `dtype`."""
  config = CONFIGS[name]
  made = transformers.AutoModelForCausalLM.from_config(
    config, attn_implementation='eager', dtype=torch.float32
  )
  tensors = {
    key: torch.from_numpy(
      random_checkpoints.random_tensor(key, tuple(value.shape))
    )
    for key, value in made.state_dict().items()
    if key != 'lm_head.weight'
  }
  made.load_state_dict(tensors, strict=False)
  made.tie_weights()
  return made.to(getattr(torch, dtype)).eval()


def logits(made, tokens: np.ndarray) -> np.ndarray:
  """Returns logits f32 [B, T, VOCAB] of tokens i32 [B, T] without padding."""
  with torch.no_grad():
    found = made(torch.from_numpy(np.asarray(tokens, np.int64))).logits
  return found.float().numpy()[..., :VOCAB]


def greedy(made, prompt, count: int, stop_ids=()) -> list[int]:
  """Returns the greedy continuation of a prompt, a stop token included.

  Computes every token from the whole sequence, without a cache.
  """
  with torch.no_grad():
    sequence = made.generate(
      torch.tensor([list(map(int, prompt))]),
      attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
      max_new_tokens=count,
      do_sample=False,
      use_cache=False,
      pad_token_id=0,
      eos_token_id=list(map(int, stop_ids)) or None,
      suppress_tokens=list(range(VOCAB, ROWS)),
    )[0]
  return sequence[len(prompt) :].tolist()
