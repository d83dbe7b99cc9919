"""Inference parameters: the layout and dtype that decoding reads."""

import jax.numpy as jnp

from score_jax.models import lora, transformer


def inference_params(params, dtype=jnp.float32):
  """Returns the parameters in decode's layout and dtype, made once per step.

  Layers are unstacked, since a slice of a stack would be copied for every
  token. Matrices are cast to `dtype`; norm scales stay in float32. Adapters are
  merged into float32 weights, which saves a CPU a tenth of decode. In a
  narrower dtype they stay separate: merging would round away updates of less
  than half a unit in the last place of a weight.

  Args:
    params: as from `transformer.init_params`, with or without adapters.
    dtype: of the matrices.

  Returns:
    A tree like `transformer.unstack`'s.

  Example:
    >>> policy = sj.inference_params(params, 'bfloat16')
    >>> policy['embedding'].dtype, policy['final_norm']['scale'].dtype
    (dtype(bfloat16), dtype('float32'))
  """
  if jnp.dtype(dtype) == jnp.float32:
    params = lora.merge(params, jnp.float32)
  return transformer.cast(transformer.unstack(params), dtype)
