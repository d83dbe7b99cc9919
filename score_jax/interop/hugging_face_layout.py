"""Which tensor of a Hugging Face Gemma is which parameter here.

Matrices are [out, in] there and [in, out] here; both order output features by
head. Names are without the model's prefix ('model.' in text-only files).
"""

import dataclasses

from score_jax.models import model_config

EMBEDDING = 'embed_tokens.weight'
HEAD = 'lm_head.weight'

_MATRICES = {
  'attention/q': 'self_attn.q_proj.weight',
  'attention/k': 'self_attn.k_proj.weight',
  'attention/v': 'self_attn.v_proj.weight',
  'attention/o': 'self_attn.o_proj.weight',
  'mlp/gate': 'mlp.gate_proj.weight',
  'mlp/up': 'mlp.up_proj.weight',
  'mlp/down': 'mlp.down_proj.weight',
}
_NORMS_GEMMA_1 = {
  'pre_attention_norm/scale': 'input_layernorm.weight',
  'pre_mlp_norm/scale': 'post_attention_layernorm.weight',
}
# A name of Gemma 1 stands for another place: before the residual sum.
_NORMS_GEMMA_2_3 = {
  'pre_attention_norm/scale': 'input_layernorm.weight',
  'post_attention_norm/scale': 'post_attention_layernorm.weight',
  'pre_mlp_norm/scale': 'pre_feedforward_layernorm.weight',
  'post_mlp_norm/scale': 'post_feedforward_layernorm.weight',
}
_QK_NORMS = {
  'attention/q_norm/scale': 'self_attn.q_norm.weight',
  'attention/k_norm/scale': 'self_attn.k_norm.weight',
}


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a tensor belongs.

  Attributes:
    layer: of the model; None: outside the layers.
    leaf: path of the parameter, inside the layer if there is one.
    is_transposed: the tensor is the parameter's transpose.
  """

  layer: int | None
  leaf: str
  is_transposed: bool


def places(config: model_config.ModelConfig) -> dict[str, Place]:
  """The tensors of a model by name, in the order of the forward pass."""
  norms = _NORMS_GEMMA_2_3 if config.post_norms else _NORMS_GEMMA_1
  if config.qk_norm:
    norms = norms | _QK_NORMS
  found = {EMBEDDING: Place(None, 'embedding', False)}
  for layer in range(config.num_layers):
    for names, is_transposed in ((_MATRICES, True), (norms, False)):
      for leaf, name in names.items():
        found[f'layers.{layer}.{name}'] = Place(layer, leaf, is_transposed)
  found['norm.weight'] = Place(None, 'final_norm/scale', False)
  return found
