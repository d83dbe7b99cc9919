"""FLOPs that an update needs, whatever the program does: the MFU's numerator.

The policy's forward and backward pass once, and the reference's forward pass:
no recomputation. A backward pass counts twice its forward pass, and once where
only adapters are trained, whose gradients need no products with activations of
the weights' size. Attention counts the keys that a query sees.
"""

from score_jax.models import model_config


def forward_flops(
  config: model_config.ModelConfig, length: int, logits: int
) -> float:
  """FLOPs of a forward pass of one row.

  Args:
    config: the model.
    length: T, tokens of the row.
    logits: tokens whose logits are computed.
  """
  c = config
  projections = 2 * c.num_heads + 2 * c.num_kv_heads
  weights = c.width * (projections * c.head_dim + 3 * c.mlp_width)
  total = 2.0 * c.num_layers * length * weights
  for kind in c.layer_kinds:
    window = c.window if kind == 'local' else None
    total += 4.0 * c.num_heads * c.head_dim * _pairs(length, window)
  return total + 2.0 * logits * c.width * c.vocab_size


def update_flops(
  config: model_config.ModelConfig,
  rows: int,
  length: int,
  logits: int,
  *,
  adapters: bool,
) -> float:
  """FLOPs of an update: all rows, policy and reference."""
  passes = 1 + (1 if adapters else 2) + 1
  return rows * passes * forward_flops(config, length, logits)


def _pairs(length, window):
  """Pairs of query and key that it sees, t + 1 or the window for query t."""
  if window is None or window >= length:
    return length * (length + 1) // 2
  return window * (window + 1) // 2 + (length - window) * window
