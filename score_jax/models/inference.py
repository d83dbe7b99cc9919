"""The parameters as decoding reads them."""

import jax.numpy as jnp

from score_jax.models import lora, transformer


def inference_params(params, dtype=jnp.float32):
  """The parameters as decode reads them, made once per step.

  Each layer's stand apart, since what is cut out of a stack would be copied
  for every token. Matrices are cast to decode's dtype; norm scales stay in
  float32. Adapters are merged into float32 weights, which saves a CPU a tenth
  of decode. In a narrower dtype they stay apart: an update of less than half a
  unit in the last place of a weight would be rounded away.
  """
  if jnp.dtype(dtype) == jnp.float32:
    params = lora.merge(params)
  return transformer.cast(transformer.unstack(params), dtype)
