"""Multiplications and additions of one matrix product, or kernel, of a program.

A TPU kernel is opaque in the program's text. Those of JAX's splash attention
are known by name, and counted as causal, blocks on the diagonal whole; a
narrower window counts for nothing, so that local layers are overestimated.
"""

from collections.abc import Mapping
import math
import re

from experiments.planning import hlo

# Products of queries, keys, values and their gradients in each kernel.
_FLOATS = ('bf16', 'f32')
_SPLASH = {'splash_mha_fwd': 2, 'splash_mha_dq': 3, 'splash_mha_dkv': 4}


def of_kernel(
  computation: Mapping[str, hlo.Instruction], kernel: hlo.Instruction
) -> float:
  """FLOPs of a custom call: what it states, or those of splash attention."""
  if stated := re.search(r'"flops":"?(\d+)', kernel.attributes):
    return float(stated[1])
  for name, products in _SPLASH.items():
    if kernel.name.startswith(name):
      operands = [computation[n].arrays[0] for n in kernel.operands]
      # Queries come after the mask's integers. A single row has no axis.
      queries = next(a for a in operands if a.dtype in _FLOATS)
      *rows_and_heads, length, size = queries.dims
      block = kernel.arrays[0].dims[-2]
      pairs = length * (length + block) / 2
      return 2.0 * products * math.prod(rows_and_heads) * pairs * size
  return 0.0


def of_product(
  computation: Mapping[str, hlo.Instruction], product: hlo.Instruction
) -> float:
  """FLOPs of a `dot` or `convolution`, two a multiplication; else 0."""
  if product.opcode == 'dot':
    return _dot_flops(computation, product)
  if product.opcode == 'convolution':
    return _convolution_flops(computation, product)
  return 0.0


def _dot_flops(body, dot):
  left = body[dot.operands[0]].arrays[0].dims
  found = re.search(r'lhs_contracting_dims=\{([\d,]*)\}', dot.attributes)
  contracted = [int(d) for d in found[1].split(',') if d] if found else []
  return 2.0 * dot.arrays[0].elements * math.prod(left[d] for d in contracted)


def _convolution_flops(body, conv):
  """Multiplications and additions of what lies inside the padded input.

  TPU programs write matrix products as convolutions: batch dimensions become
  windows that are dilated so that only the diagonal counts.
  """
  labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', conv.attributes)
  left, right, out = labels.groups()
  left_dims, right_dims = (body[n].arrays[0].dims for n in conv.operands[:2])
  window = _window(conv.attributes)
  pairs = 1
  for axis in range(sum(c.isdigit() for c in out)):
    label = str(axis)
    sizes = (
      left_dims[left.index(label)],
      right_dims[right.index(label)],
      conv.arrays[0].dims[out.index(label)],
    )
    pairs *= _valid_pairs(*sizes, **{k: v[axis] for k, v in window.items()})
  groups = re.search(r'batch_group_count=(\d+)', conv.attributes)
  batch = left_dims[left.index('b')] // (int(groups[1]) if groups else 1)
  features = right_dims[right.index('o')] * right_dims[right.index('i')]
  return 2.0 * batch * features * pairs


def _window(attributes):
  """Fields of window={...}, a list with an entry for each spatial axis."""
  text = re.search(r'window=\{([^}]*)\}', attributes)
  fields = dict(part.split('=') for part in text[1].split()) if text else {}
  axes = len(fields['size'].split('x')) if 'size' in fields else 0

  def numbers(key, default):
    values = fields.get(key, 'x'.join([default] * axes))
    return [int(v) for v in values.split('x')] if axes else []

  pads = fields.get('pad', 'x'.join(['0_0'] * axes))
  low = [int(p.split('_')[0]) for p in pads.split('x')] if axes else []
  return {
    'stride': numbers('stride', '1'),
    'pad': low,
    'dilate': numbers('rhs_dilate', '1'),
    'spread': numbers('lhs_dilate', '1'),
  }


def _valid_pairs(size, kernel, out, *, stride, pad, dilate, spread):
  """Pairs of output and kernel positions that meet an input element."""
  reach = (size - 1) * spread
  count = 0
  for k in range(kernel):
    offset = k * dilate - pad
    # Positions o with 0 <= o * stride + offset <= reach, on the spread grid.
    first = max(0, math.ceil(-offset / stride))
    last = min(out - 1, (reach - offset) // stride)
    if spread == 1:
      count += max(0, last - first + 1)
    else:
      count += sum(
        (o * stride + offset) % spread == 0 for o in range(first, last + 1)
      )
  return count
