"""Sizes and numerics of a Gemma-style decoder, for every generation."""

import dataclasses
from typing import Literal

LayerKind = Literal['local', 'global']


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes and numerics of a decoder (Gemma 1, 2, 3 reports; GeGLU, RoPE).

  Attributes:
    vocab_size: rows of the embedding, without a checkpoint's padding.
    width: of the residual stream (d_model).
    num_layers: decoder blocks.
    num_heads: query heads.
    num_kv_heads: key and value heads; divides `num_heads`.
    head_dim: of one head.
    mlp_width: hidden units of the gated MLP (not the doubled figure).
    layer_pattern: kinds of one period of layers, repeated; layers after the
      last whole period take the pattern's first kinds.
    window: keys that a local layer sees, the query's own included.
    query_scale: multiplies the queries; None: head_dim ** -0.5.
    qk_norm: RMS-normalise queries and keys before RoPE (Gemma 3).
    post_norms: RMS-normalise each branch before it joins the residual stream
      (Gemma 2, 3).
    norm_epsilon: added to the mean square by every RMS norm.
    attention_softcap: c in c * tanh(score / c), before the mask (Gemma 2).
    final_softcap: c in c * tanh(logit / c) of the output (Gemma 2).
    local_rope_base: RoPE base of local layers.
    global_rope_base: RoPE base of global layers.
    global_rope_scale: divides the positions of global layers (Gemma 3 4B up).
    round_embedding_scale: round sqrt(width) to bfloat16 before it multiplies
      the embeddings, as checkpoints trained in bfloat16 saw it.
    operands: number format that products of activations and weights round both
      to; their sums are in the activations' format. None: that format.

  Example:
    >>> config = sj.ModelConfig(
    ...   vocab_size=300, width=32, num_layers=3, num_heads=2,
    ...   num_kv_heads=1, head_dim=16, mlp_width=64, window=8,
    ...   layer_pattern=('local', 'global'))
    >>> config.layer_kinds
    ('local', 'global', 'local')
  """

  vocab_size: int
  width: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  mlp_width: int
  layer_pattern: tuple[LayerKind, ...] = ('global',)
  window: int | None = None
  query_scale: float | None = None
  qk_norm: bool = False
  post_norms: bool = False
  norm_epsilon: float = 1e-6
  attention_softcap: float | None = None
  final_softcap: float | None = None
  local_rope_base: float = 10_000.0
  global_rope_base: float = 10_000.0
  global_rope_scale: float = 1.0
  round_embedding_scale: bool = False
  operands: str | None = None

  def __post_init__(self):
    if self.num_heads % self.num_kv_heads:
      raise ValueError(
        f'num_heads={self.num_heads} is not a multiple of '
        f'num_kv_heads={self.num_kv_heads}'
      )
    if self.head_dim % 2:
      raise ValueError(f'head_dim={self.head_dim} must be even for RoPE')
    if 'local' in self.layer_pattern and not self.window:
      raise ValueError('a pattern with local layers needs a window')

  @property
  def layer_kinds(self) -> tuple[LayerKind, ...]:
    """Kind of every layer."""
    period = len(self.layer_pattern)
    return tuple(self.layer_pattern[i % period] for i in range(self.num_layers))

  @property
  def num_repeats(self) -> int:
    """Number of whole periods of the layer pattern."""
    return self.num_layers // len(self.layer_pattern)

  @property
  def num_remainder(self) -> int:
    """Number of layers after the last whole period."""
    return self.num_layers % len(self.layer_pattern)

  def rope(self, kind: LayerKind) -> tuple[float, float]:
    """RoPE base and position divisor of a layer kind."""
    if kind == 'local':
      return self.local_rope_base, 1.0
    return self.global_rope_base, self.global_rope_scale
